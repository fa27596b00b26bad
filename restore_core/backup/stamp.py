"""Chooses the stamp of a backup, and the paths on the target that follow from it.

A stamp never lies in the future, and no two backups of a disk have the same one. It is the minute; where the disk has a backup of
that minute already, the second; where that is taken, too (the clock was set back), the next second is waited for. A time that a
person gives is taken as it is, or refused.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.archive.delta_writer import DiskFacts
from restore_core.backup.subject import check_length
from restore_core.catalog import CatalogEntry, DiskKey
from restore_core.errors import ArchiveAbsent, TryAgainLater, UsageError
from restore_core.targets.base import ArchiveRef, Target

_YEARS = (2000, 2099)
_WAITS = 60
"""After a minute of taken seconds it is not the clock of a moment ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBackup:
    """A disk that is to be backed up. `base` is the stamp of the Full that a Delta is made against; None: a Full is made."""

    disk: DiskFacts
    base: dt.datetime | None

    def paths(self, stamp: dt.datetime) -> tuple[str, ...]:
        """Returns paths on the target: of the Delta, or of the empty Delta and its Full. `SourceRefused` if too long."""
        disk = self.disk
        check_length(disk.scsi, disk.disk, stamp, self.base or stamp)
        folder = naming.folder_name(date=stamp.date(), vm=disk.vm, uuid=disk.uuid)
        delta = naming.delta_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp, base=self.base or stamp)
        if self.base is not None:
            return (f"{folder}/{delta}",)
        return f"{folder}/{delta}", f"{folder}/{naming.full_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What stands on the target already: the backups of these disks, as far as they were listed, and every other file."""

    target: Target
    new: Sequence[NewBackup]
    known: Sequence[CatalogEntry]

    def by(self, stamp: dt.datetime) -> ArchiveRef | None:
        """Returns what has this stamp, None if it is free."""
        for entry in self.known:
            if entry.name.stamp == stamp:
                return entry.ref
        for path in (path for one in self.new for path in one.paths(stamp)):
            if _holds(self.target, path):
                return ArchiveRef(target=self.target.spec.name, path=path)
        return None

    def free_now(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the minute, else the second of `now` (local to the target), None if both are taken."""
        minute = now.replace(second=0, microsecond=0)
        if all(entry.name.stamp.replace(second=0) != minute for entry in self.known) and self.by(minute) is None:
            return minute
        second = now.replace(microsecond=0)
        return second if self.by(second) is None else None


def taken_on(target: Target, new: Sequence[NewBackup], known: Collection[CatalogEntry]) -> Taken:
    """Returns what is taken for these disks; `known` are backups of any disks."""
    keys = {DiskKey.of(vm=one.disk.vm, uuid=one.disk.uuid, scsi=one.disk.scsi, disk=one.disk.disk) for one in new}
    return Taken(target=target, new=new, known=[entry for entry in known if entry.disk_key in keys])


def given(taken: Taken, at: dt.datetime) -> dt.datetime:
    """Returns the stamp for a time that a person gave. Raises `UsageError` if it is taken or lies in the future."""
    stamp = _local(taken, at)
    if at > _now():
        raise UsageError(
            f"{_shown(taken, stamp)} lies in the future: until then this would count as newer than every other backup",
            remedy="Give the time at which the disk was as it is now, or leave --at out.",
        )
    if (other := taken.by(stamp)) is not None:
        raise UsageError(
            f"{_shown(taken, stamp)} is taken: {other} is of this time",
            remedy='Give another time, also with seconds (--at "2026-11-24 03:00:30"), or leave --at out: now.',
        )
    return stamp


def present(taken: Taken, note: Callable[[str], None]) -> tuple[dt.datetime, dt.datetime]:
    """Returns the stamp for now, and now (aware). Raises `TryAgainLater` when a minute of seconds is taken."""
    for _ in range(_WAITS):
        now = _now()
        stamp = taken.free_now(_local(taken, now))
        if stamp is not None:
            if later := max((entry.time for entry in taken.known if entry.time > now), default=None):
                shown = _shown(taken, later.astimezone(ZoneInfo(taken.target.spec.timezone)))
                note(f"a backup of {shown} is there, later than this machine's clock: this one is listed before it")
            return stamp, now
        _wait_for_the_next_second(now)
    raise TryAgainLater(
        f"target {taken.target.spec.name}: every second of the last minute is the time of another backup of this disk",
        remedy="This machine's clock stands, or was set back: look at it (timedatectl), and try again.",
    )


def _local(taken: Taken, time: dt.datetime) -> dt.datetime:
    """Returns the time on the clock of the target. Raises `UsageError` for a year that no name can hold."""
    stamp = time.astimezone(ZoneInfo(taken.target.spec.timezone)).replace(tzinfo=None, microsecond=0)
    if not _YEARS[0] <= stamp.year <= _YEARS[1]:
        raise UsageError(
            f"{stamp:%Y-%m-%d %H:%M} cannot be the time of a backup: names hold two digits of the year, {_YEARS[0]} to {_YEARS[1]}",
            remedy="Set this machine's clock, or give the time with --at.",
        )
    return stamp


def _shown(taken: Taken, stamp: dt.datetime) -> str:
    return f"{naming.time_text(stamp)} ({taken.target.spec.timezone})"


def _holds(target: Target, path: str) -> bool:
    try:
        target.stat(path)
    except ArchiveAbsent:
        return False
    return True


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _wait_for_the_next_second(now: dt.datetime) -> None:
    time.sleep(1 - now.microsecond / 1e6)
