"""What the tables say of a backup."""

from __future__ import annotations

import datetime as dt
from collections.abc import Container

from restore_core.catalog import CatalogEntry, DiskKey
from restore_core.naming import ArchiveType


def type_of(entry: CatalogEntry, maps: Container[tuple[DiskKey, dt.datetime]]) -> str:
    """Returns Full or Delta, with what a person has to know of it; `maps` are the Fulls that have their empty Delta."""
    arriving = ("" if entry.settled else ", arriving") + (f", without {' '.join(entry.left_out)}" if entry.left_out else "")
    if entry.name.type is ArchiveType.DELTA:
        return ("empty Delta" if entry.name.empty_delta else "Delta") + arriving
    return ("Full" if (entry.disk_key, entry.name.stamp) in maps else "Full, no map") + arriving
