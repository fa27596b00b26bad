"""Backups: read a disk once, with all cores, and write a Full with its empty Delta, or a Delta, to a target.

source   what can be backed up; everything else is refused by name
subject  whose disk it is: VM name, UUID, SCSI id
full, delta, adopt   the three ways to an archive
run      the order of a backup, and the names of its archives
"""
