"""The exact time of a backup whose stamp cannot be taken at its word. The header of a Delta has it, so it is asked there.

* When summer time ends, an hour of the wall clock comes twice. Such a stamp is read as the first of the two; a header that
  cannot be read leaves the second, so that no copy is brought nearer to today than its rule allows.
* A backup made in the same minute as the one before took the next free minute for its stamp, which may lie ahead of now.

Both are rare: once a year for an hour, and for the minutes after a backup. All other stamps are believed as they are.
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

_AHEAD = dt.timedelta(days=1)
"""A stamp further in the future than this is no next free minute."""


def exact(entry: CatalogEntry, zone: ZoneInfo, targets: TargetSet, *, now: dt.datetime) -> CatalogEntry:
    """The same entry with the time its header says, if its stamp can mean two or lies ahead; any other entry as it is."""
    later = entry.name.stamp.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    # In the hour that is left out in spring the second reading is the earlier one: no backup bears such a stamp by right.
    twice, ahead = later > entry.time, now < entry.time <= now + _AHEAD
    if not (twice or ahead) or entry.name.type is not ArchiveType.DELTA:
        return entry
    time = _header_time(entry, targets)
    if time is None:
        return replace(entry, time=max(later, entry.time))
    if twice:
        entry = replace(entry, time=min(entry.time, later, key=lambda reading: abs(reading - time)))
    if entry.time <= max(now, time):
        return entry
    # As many microseconds later as its stamp is minutes: several backups of one minute keep their order.
    return replace(entry, time=time + dt.timedelta(microseconds=(entry.time - time) // dt.timedelta(minutes=1)))


def _header_time(entry: CatalogEntry, targets: TargetSet) -> dt.datetime | None:
    try:
        with targets.open(entry.ref) as source:
            head = parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref))
        return dt.datetime.fromtimestamp(head.time, dt.UTC)
    except (PhdError, ValueError, OverflowError, OSError):
        return None
