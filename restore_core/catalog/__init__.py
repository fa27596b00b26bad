"""What the targets hold: their listings, and the archives that the names in them stand for. No database.

    entry      one archive by its name; the archives of one target as it is now
    exact      the exact time of an archive whose stamp is ambiguous
    listing    the cache: one text file for each target, a line `size mtime mark path` for each file
    left_out   which disks of its VM a backup left out
    held       the record of how many archives a target held, outside of the cache
    query      reads the archives that are asked for
    index      lists all targets at the same time into the cache
    arriving   files that may still be uploading to a target

The cache may be deleted at any time. A target that cannot be listed keeps its last listing, marked stale since when;
it is never taken for a target that holds nothing. Nor is a part of a listing taken for the whole. A file whose name is not an
archive's is no entry.
"""

from restore_core.catalog.entry import CatalogEntry, DiskKey, entries, newest_full_with_map

__all__ = ["CatalogEntry", "DiskKey", "entries", "newest_full_with_map"]
