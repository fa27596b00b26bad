"""Under which names a backup is stored: all disks of one run share a stamp, and no name is ever taken twice."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.archive.delta_writer import DiskFacts
from restore_core.catalog import CatalogEntry
from restore_core.errors import ArchiveAbsent, UsageError
from restore_core.targets.base import Target

_YEARS = (2000, 2099)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The Full that a Delta is made against, and its empty Delta, which holds the map."""

    full: CatalogEntry
    empty_delta: CatalogEntry


def archive_paths(disk: DiskFacts, base: Base | None, stamp: dt.datetime) -> tuple[str, ...]:
    """Paths on the target: of the Delta, or, without a base, of the empty Delta and its Full."""
    folder = naming.folder_name(date=stamp.date(), vm=disk.vm, uuid=disk.uuid)
    base_stamp = base.full.name.stamp if base else stamp
    delta = f"{folder}/{naming.delta_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp, base=base_stamp)}"
    if base is not None:
        return (delta,)
    return delta, f"{folder}/{naming.full_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp)}"


def free_stamp(target: Target, disks: list[tuple[DiskFacts, Base | None]], time: dt.datetime) -> dt.datetime:
    """The next minute under which no name of this run is taken, as local time of the target.

    Raises `UsageError` for a year that no name can hold, and when a whole day is taken: then something else is wrong.
    """
    stamp = time.astimezone(ZoneInfo(target.spec.timezone)).replace(tzinfo=None, second=0, microsecond=0)
    if not _YEARS[0] <= stamp.year <= _YEARS[1]:
        raise UsageError(
            f"{stamp:%Y-%m-%d %H:%M} cannot be the time of a backup: names hold two digits of the year, {_YEARS[0]} to {_YEARS[1]}",
            remedy="Set this machine's clock, or give the time with --at.",
        )
    for _ in range(24 * 60):
        paths = [path for disk, base in disks for path in archive_paths(disk, base, stamp)]
        if not any(_exists(target, path) for path in paths):
            return stamp
        stamp += dt.timedelta(minutes=1)
    raise UsageError("every name of the next 24 hours is taken on this target", remedy="Give another time with --at.")


def _exists(target: Target, path: str) -> bool:
    try:
        target.stat(path)
    except ArchiveAbsent:
        return False
    return True
