"""The spool: the directory is the state, rename is the only move."""
