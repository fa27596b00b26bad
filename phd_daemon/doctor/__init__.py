"""`phd doctor`: what is wrong with this installation, where, why it matters, and how to mend it.

    settings     config-invalid, settings-writable, secret-readable, secret-missing
    spool        spool-unsafe, daemon-down, queue-disabled
    targets      target-unreachable, target-emptied, listing-partial, host-key-unknown
    replication  rule-bad, rule-matches-nothing, rule-ambiguous, replica-gone, replica-diverged,
                 replica-older, replica-ahead, ledger-line-bad
    leftovers    partial-file-stale, refresh-interrupted
    machine      disk-nearly-full, clock-wrong, not-confined
    systemd      unit-not-hardened

It changes nothing but what is known of the targets (the catalog's cache, the record of what each held). What it could not look
at (another user's files, a unit where there is no systemd) it says: no finding is not the same as nothing wrong. Not looked at:
the archives themselves ('phd verify').
"""
