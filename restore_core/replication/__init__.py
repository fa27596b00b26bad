"""Replication: decides which backup is restored to which path. Nothing here starts a restore.

rules      parses vmdks.auto into rules, and problems of wrong lines
ledger     reads and writes restored.log, the verified restores; names the jobs of rules
decision   the decision on one rule in one pass: verdict and reason
history    the history of one path: restores by rule, and the backup there now
selection  makes one decision for each rule, from catalog, ledger, jobs, destinations and time
loading    makes the lines that 'phd rules load' appends
"""
