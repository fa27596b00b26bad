"""The spool: the directory is the state, rename is the only move. A scan is the truth, an event is a hint.

Files of one job `crm` in each state, and what is on disk after a crash in it:

    state      control file    .state/crm.json   .state/crm.lock   crm.status        after a crash
    new        crm.job         none              none              none              looked at again
    waiting    crm.job         waiting           free              waiting           waits on, same place in the queue
    held       crm.held        held (or none)    free              held (or none)    stays
    running    crm.running     running           held by worker    worker's          adopted while the lock is held
                                                 free              outcome there     the outcome is carried out
                                                 free              no outcome        the worker died: waits again
    final      crm.done        done              free              with the outcome  stays
               crm.failed      failed
               crm.cancelled   cancelled
               crm.rejected    rejected          none
    rotated    crm.~1.done     none              none              crm.~1.status     stays (with crm.~1.log)

Order of a start: take the lock, rename .job to .running, write the record, spawn, close our copy of the lock.
Order of an end: the outcome is durable in crm.status, rename to the final name, write the record.
A crash between two of these steps leaves a row of the table or a mix of two neighbours; `reconcile` knows them all.

    layout     names and states            record     .state/crm.json         folder     what a scan sees
    reconcile  facts -> one action (pure)  door       open, check, accept     moves      the actions, each a few calls
    keeper     one round: scan, decide, act            watcher    the doorbell          actions    what people may do
    plain      logs and statuses, read with care         priority   another priority for a waiting job

Not guaranteed: that the log holds every line after a power cut, that an edit within the clock tick of the acceptance
is noticed, and the order of two files that came in the same clock tick (then it is by name).
"""
