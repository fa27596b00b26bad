"""Disks and their files, read straight from the archives, without a restore."""
