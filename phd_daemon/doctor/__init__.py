"""`phd doctor`: what is wrong with this installation, where, why it matters, and how to mend it.

    settings     config-invalid, settings-writable, secret-readable, secret-missing
    spool        spool-unsafe, daemon-down, queue-disabled
    datastores   datastore-missing, datastore-unmounted, datastore-changed, datastore-gone, datastore-unreadable,
                 datastore-record, state-dir-unwritable
    targets      target-unreachable, target-emptied, listing-partial, host-key-unknown
    replication  rule-bad, rule-matches-nothing, rule-ambiguous, replica-gone, replica-diverged,
                 replica-older, replica-ahead, ledger-line-bad
    leftovers    partial-file-stale, refresh-interrupted, replacement-interrupted
    machine      disk-nearly-full, clock-wrong, not-confined
    systemd      unit-not-hardened

It changes nothing but what is known of the targets (the catalog's cache, the record of what each held). It also reports what it
could not look at, such as another user's files: no finding does not mean that nothing is wrong. It does not look at the archives
themselves ('phd verify').
"""
