"""What the targets hold: their listings, read by name into facts. No database; a listing is the truth of its moment.

    entry      one archive by its name; one target as it is now
    listing    the cache: one text file a target, `size mtime mark path` a line
    known_gap  what is missing of a listing, why, and since when
    keep       what stays of the listing before where the new one is partial
    held       how many archives a target held, on record outside of the cache
    query      which of them are asked for
    index      all targets side by side into the cache
    young      files that may still be on their way to a target

The cache may be deleted at any time. A target that cannot be listed keeps its last listing, marked stale since when;
it is never taken for one that holds nothing. Nor is a part of a listing taken for the whole. Files that are not ours by name
are no entries.
"""

from restore_core.catalog.entry import CatalogEntry, entries, newest_full_with_map

__all__ = ["CatalogEntry", "entries", "newest_full_with_map"]
