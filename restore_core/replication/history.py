"""What one path has seen: the newest backup that was restored there by rule, and which backup lies there now. Pure.

A replica never goes back by itself, so a pass restores to a path only what is newer than

    every backup with a line in restored.log    but for lines dated after now, or a clock that was wrong once would stop the replica
    the backup that lies there                  by the receipt of its restore, whoever asked for it; the same one again does no harm

While no line names the path, neither counts: who deletes the lines makes those restores eligible again.
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
"""A clock that was set back a little says nothing against a receipt; a backup dated further ahead of now is not believed."""
_ZONES_APART = dt.timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskState:
    """A disk as it is now: something lies there; a restore of ours has left it so, and nobody has written it since.

    `archive` and `taken` say what that restore wrote (None: its receipt does not say), `startable` whether its descriptor
    is there, `unseen` why nothing can be known.
    """

    exists: bool
    ours: bool = False
    archive: ArchiveRef | None = None
    taken: dt.datetime | None = None
    startable: bool = True
    unseen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The backup that lies at a path."""

    archive: ArchiveRef
    time: dt.datetime

    def is_one_of(self, copies: Iterable[CatalogEntry]) -> bool:
        """Whether it is this backup, whichever target, or folder of this machine, it was read from."""
        return any(self._is(entry) for entry in copies)

    def _is(self, entry: CatalogEntry) -> bool:
        if self.archive.name != entry.ref.name:
            return False
        # A file that lay somewhere on this machine has no folder that says whose backup it is.
        moved = self.archive.target == LOCAL and naming.parse_folder(self.archive.folder).uuid is None
        return self.archive.folder == entry.ref.folder or moved


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One path. `mark` is the time of the newest backup whose line counts.

    `floor` is that of the backup which lies there, where nothing older may replace it.
    """

    lines: tuple[LedgerLine, ...]
    mark: dt.datetime | None
    here: Here | None
    floor: dt.datetime | None

    def may_restore(self, copies: Sequence[CatalogEntry]) -> bool:
        """Whether a pass may restore this backup; `copies` are the same one on several targets."""
        time = copies[0].time
        tails = tuple(f"/{entry.ref.folder}/{entry.ref.name}" for entry in copies)
        if any(f"/{line.archive.path}".endswith(tails) for line in self.lines):  # on whatever target
            return False
        if self.mark is not None and time <= self.mark:
            return False
        return self.floor is None or time >= self.floor or (self.here is not None and self.here.is_one_of(copies))


class Times:
    """When a backup was made: as the catalog knows it, else by the stamp in its name."""

    def __init__(self, entries: Iterable[CatalogEntry], zones: Mapping[str, ZoneInfo]) -> None:
        self._known = {entry.ref: entry.time for entry in entries}
        self._zones = zones

    def of(self, archive: ArchiveRef, taken: dt.datetime | None = None) -> dt.datetime | None:
        """The time; `taken` is what its header said, if that is known. None if nothing tells it.

        A stamp that can mean several times is taken for the latest: nothing is restored by mistake.
        """
        if archive in self._known:
            return self._known[archive]
        name = naming.parse_archive(archive.name)
        if name is None or (archive.target not in self._zones and taken is not None):
            return taken and taken.replace(second=0, microsecond=0)
        mine = self._zones.get(archive.target)
        zones = [mine] if mine else [*self._zones.values()] or [ZoneInfo("UTC")]
        readings = [name.stamp.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for zone in zones for fold in (0, 1)]
        return min(readings, key=lambda time: abs(time - taken)) if taken else max(readings)


def history_of(lines: tuple[LedgerLine, ...], at: DiskState, times: Times, now: dt.datetime) -> History:
    """What is known of a path from its lines, in the order of the ledger, and from the disk there."""
    counted = _newest_by_name([line for line in lines if line.time <= now])
    marks = [time for line in counted if (time := times.of(line.archive)) is not None]
    here = _here(lines, at, times)
    counts = here is not None and at.archive is not None and bool(lines) and here.time <= now + _AHEAD
    return History(lines=lines, mark=max(marks, default=None), here=here, floor=here.time if here and counts else None)


def _newest_by_name(lines: list[LedgerLine]) -> list[LedgerLine]:
    """Those that may be the newest, whatever zone their stamps are in: a ledger of years has many lines a path."""
    stamps = [line.archive.path.rpartition(".delta-")[2][:15] for line in lines]
    try:
        newest = dt.datetime.strptime(max(stamps, default=""), "%Y.%m.%d-%H%M")  # noqa: DTZ007  a stamp of no zone
        least = f"{newest - _ZONES_APART:%Y.%m.%d-%H%M}"
    except (ValueError, OverflowError):
        return lines
    if newest.year < 1000:  # is not written with four digits
        return lines
    return [line for line, stamp in zip(lines, stamps, strict=True) if stamp >= least]


def _here(lines: tuple[LedgerLine, ...], at: DiskState, times: Times) -> Here | None:
    """By the receipt; one that does not say is that of the last restore by rule."""
    if not (at.exists and at.ours):
        return None
    archive = at.archive or (lines[-1].archive if lines else None)
    if archive is None:
        return None
    time = times.of(archive, at.taken if at.archive else None)
    return None if time is None else Here(archive=archive, time=time)
