"""The exact time of a backup whose stamp means two times: when summer time ends, an hour of the wall clock comes twice.

Such a stamp is read as the first of the two. The header of a Delta has the exact time, so it is asked: once a year, for
the archives of one hour. A header that cannot be read leaves the later time, so that no copy is brought nearer to today
than its rule allows.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

from restore_core.archive.header import HEAD_BYTES, parse_head
from restore_core.catalog.entry import CatalogEntry
from restore_core.errors import PhdError
from restore_core.naming import ArchiveType
from restore_core.targets import TargetSet


def exact(entry: CatalogEntry, zone: ZoneInfo, targets: TargetSet) -> CatalogEntry:
    """The same entry with the time its header says, if its stamp can mean two; any other entry as it is."""
    later = entry.name.stamp.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    # In the hour that is left out in spring the second reading is the earlier one: no backup bears such a stamp by right.
    if later <= entry.time or entry.name.type is not ArchiveType.DELTA:
        return entry
    try:
        with targets.open(entry.ref) as source:
            time = parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref)).time
    except PhdError:
        return replace(entry, time=later)
    nearest = min(entry.time, later, key=lambda reading: abs(reading.timestamp() - time))
    return replace(entry, time=nearest)
