"""The exact time of a backup whose stamp is ambiguous. The header of a Delta has the exact time, so the header is read then.

* When summer time ends, an hour of the wall clock comes twice. Such a stamp is read as the first of the two. If the header
  cannot be read, it is the second, so that no replica is brought nearer to today than its rule allows.
* In a version before, a backup made in the same minute as the one before took the next free minute for its stamp, which may lie
  in the future for a while.

All other stamps are exact, to the minute or the second.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

from restore_core.archive.header import HEAD_BYTES, DeltaHeader, parse_head
from restore_core.catalog.entry import CatalogEntry
from restore_core.errors import PhdError
from restore_core.naming import ArchiveType
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef

_AHEAD = dt.timedelta(days=1)
"""A stamp further in the future than this is not a next free minute."""


def exact(entry: CatalogEntry, zone: ZoneInfo, targets: TargetSet, *, now: dt.datetime) -> CatalogEntry:
    """Returns the entry with the time of its header if its stamp is ambiguous or in the future; any other entry as it is."""
    later = entry.name.stamp.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    # In the hour that is left out in spring the second reading is the earlier one: no correct clock makes such a stamp.
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


def header_of(ref: ArchiveRef, targets: TargetSet) -> DeltaHeader | None:
    """Returns the header of a Delta; None where it cannot be read now."""
    try:
        with targets.open(ref) as source:
            return parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref))
    except (PhdError, ValueError, OSError):
        return None


def _header_time(entry: CatalogEntry, targets: TargetSet) -> dt.datetime | None:
    head = header_of(entry.ref, targets)
    try:
        return dt.datetime.fromtimestamp(head.time, dt.UTC) if head is not None else None
    except (ValueError, OverflowError, OSError):
        return None
