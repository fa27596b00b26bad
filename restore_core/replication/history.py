"""The history of one path: which backups were restored there by rule, and which one is there now. Pure.

A replica never goes back by itself, so a pass restores to a path only a backup that is newer than

    each backup with a line in restored.log     but lines dated after now, or a clock that was wrong once would stop the replica
    the backup that is there                    by the receipt of its restore, whoever asked for it; the same one again is allowed

While no line names the path, neither counts: a person who deletes the lines allows those restores again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.catalog import CatalogEntry
from restore_core.replication.ledger import LedgerLine
from restore_core.targets.base import LOCAL, ArchiveRef

_AHEAD = dt.timedelta(hours=1)
"""A receipt counts if its backup is dated at most this long after now, since a clock may be set back a little."""
_ZONES_APART = dt.timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskState:
    """A disk as it is now. `ours`: a restore of ours wrote it last.

    `archive` and `taken` name the backup that was restored and its time (None: the receipt does not say). `startable`: its
    descriptor is there. `unseen` says why the disk could not be examined.
    """

    exists: bool
    ours: bool = False
    archive: ArchiveRef | None = None
    taken: dt.datetime | None = None
    startable: bool = True
    unseen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The backup that is at a path now."""

    archive: ArchiveRef
    time: dt.datetime

    def is_one_of(self, copies: Iterable[CatalogEntry]) -> bool:
        """Returns whether it is this backup, from whichever target or folder of this machine it was read."""
        return any(self._is(entry) for entry in copies)

    def _is(self, entry: CatalogEntry) -> bool:
        if self.archive.name != entry.ref.name:
            return False
        # A file of this machine may be in any folder, whose name does not say which VM it belongs to.
        moved = self.archive.target == LOCAL and naming.parse_folder(self.archive.folder).uuid is None
        return self.archive.folder == entry.ref.folder or moved


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of one path. `mark` is the time of the newest backup whose line counts.

    `floor` is the time of the backup that is there, if no older one may replace it.
    """

    lines: tuple[LedgerLine, ...]
    mark: dt.datetime | None
    here: Here | None
    floor: dt.datetime | None

    def may_restore(self, copies: Sequence[CatalogEntry]) -> bool:
        """Returns whether a pass may restore this backup; `copies` are the same one on several targets."""
        time = copies[0].time
        tails = tuple(f"/{entry.ref.folder}/{entry.ref.name}" for entry in copies)
        restored = any(f"/{line.archive.path}".endswith(tails) for line in self.lines)  # from any target
        if restored or (self.mark is not None and time <= self.mark):
            return False
        return self.floor is None or time >= self.floor or (self.here is not None and self.here.is_one_of(copies))


class Times:
    """The times of backups: from the catalog, else from the stamp in the name."""

    def __init__(self, entries: Iterable[CatalogEntry], zones: Mapping[str, ZoneInfo]) -> None:
        self._known = {entry.ref: entry.time for entry in entries}
        self._zones = zones

    def of(self, archive: ArchiveRef, taken: dt.datetime | None = None) -> dt.datetime | None:
        """Returns when a backup was made, None if that is not known; `taken` is the time in its header, if that is known.

        If a stamp can mean several times, the latest one is taken: so nothing is restored by mistake.
        """
        if archive in self._known:
            return self._known[archive]
        name = naming.parse_archive(archive.name)
        if name is None or (archive.target not in self._zones and taken is not None):
            return taken and taken.replace(second=taken.second if name is not None and name.stamp.second else 0, microsecond=0)
        mine = self._zones.get(archive.target)
        zones = [mine] if mine else [*self._zones.values()] or [ZoneInfo("UTC")]
        readings = [name.stamp.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for zone in zones for fold in (0, 1)]
        return min(readings, key=lambda time: abs(time - taken)) if taken else max(readings)


def history_of(lines: tuple[LedgerLine, ...], at: DiskState, times: Times, now: dt.datetime) -> History:
    """Returns the history of a path, from its lines in the order of the ledger, and from the disk there."""
    counted = _newest_by_name([line for line in lines if line.time <= now])
    marks = [time for line in counted if (time := times.of(line.archive)) is not None]
    here = _here(lines, at, times)
    counts = here is not None and at.archive is not None and bool(lines) and here.time <= now + _AHEAD
    return History(lines=lines, mark=max(marks, default=None), here=here, floor=here.time if here and counts else None)


def _newest_by_name(lines: list[LedgerLine]) -> list[LedgerLine]:
    """Returns the lines that may be the newest in any time zone: after years a ledger has many lines for each path."""
    stamps = [line.archive.path.rpartition(".delta-")[2][:15] for line in lines]
    try:
        newest = dt.datetime.strptime(max(stamps, default=""), "%Y.%m.%d-%H%M")  # noqa: DTZ007  a stamp of no zone
        least = f"{newest - _ZONES_APART:%Y.%m.%d-%H%M}"
    except (ValueError, OverflowError):
        return lines
    if newest.year < 1000:  # strftime writes it with fewer than four digits
        return lines
    return [line for line, stamp in zip(lines, stamps, strict=True) if stamp >= least]


def _here(lines: tuple[LedgerLine, ...], at: DiskState, times: Times) -> Here | None:
    """Returns the backup that is there, by the receipt; if that does not say, the last one restored by rule."""
    if not (at.exists and at.ours):
        return None
    archive = at.archive or (lines[-1].archive if lines else None)
    if archive is None:
        return None
    time = times.of(archive, at.taken if at.archive else None)
    return None if time is None else Here(archive=archive, time=time)
