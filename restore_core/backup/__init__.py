"""Backups: read a disk once, with both cores, and leave a Full with its empty Delta, or a Delta, on a target.

source  what can be backed up, and what is refused by name
scan    disk -> segments of blocks, holes and zeros skipped
full, delta, adopt   the three ways to an archive
subject              whose disk it is: VM name, UUID, SCSI id
run     the order of a backup
"""
