"""Simple replication: which backup goes where. Pure decisions; nothing here starts a restore.

rules      the text of vmdks.auto -> rules, and what is wrong with each other line
ledger     restored.log: which restores were verified; the names of jobs that come from a rule
decision   one rule in one pass: the verdict and its reason
history    what one path has seen: restores by rule, and the backup there now
selection  (rules, catalog, ledger, jobs, destinations, now) -> one decision a rule, with its reason
loading    the lines that 'phd rules load' appends
"""
