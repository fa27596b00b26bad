"""The library: archives, targets, disks, rules. No daemon, no logging set-up, no signals, no environment.

A restore is `plan > fetch > decode > verify > write > publish`; each word is a module or a class below
`restore_core.restore`. This package never imports `phd_daemon` (a test enforces it).
"""

__version__ = "0.1.0"
