"""The spool: a folder of control files. The suffix of a file is the state of its job, and a rename changes it.

The files of a job `crm` in each state, and what happens after a crash in it:

    state      control file    .state/crm.json   .state/crm.lock   crm.status        after a crash
    new        crm.job         none              none              none              examined again
    waiting    crm.job         waiting           free              waiting           still waits, same place in the queue
    held       crm.held        held (or none)    free              held (or none)    stays held
    running    crm.running     running           held by worker    worker's          adopted while the lock is held
                                                 free              outcome there     the outcome is carried out
                                                 free              no outcome        the worker died: waits again
    final      crm.done        done              free              with the outcome  stays
               crm.failed      failed
               crm.cancelled   cancelled
               crm.rejected    rejected          none
    rotated    crm.~1.done     none              none              crm.~1.status     stays (with crm.~1.log)

A start: take the lock, rename .job to .running, write the record, start the worker, close the daemon's copy of the lock.
An end: make the outcome durable in crm.status, rename to the final name, write the record.
A crash between two steps leaves the files of one row, or of two neighbouring rows mixed; `reconcile` knows all these cases.

    layout       the table of states; names         keeper       one round: scan, decide, act
    scan         the control files in the folder    intake       a new file: validate, accept or reject
    reconcile    facts -> one action (pure)         transitions  carries the action out; renames job files
    scheduler    which jobs start now (pure)        watcher      wakes the daemon when the folder changes
    requests     what people may ask for            snapshot     the jobs, for people
    record       .state/crm.json                    status_file  crm.status        job_log      crm.log

Not guaranteed: that the log has every line after a power cut; that an edit in the same clock tick as the acceptance is noticed; and
the order of two files that came in the same clock tick (then it is by name).
"""
