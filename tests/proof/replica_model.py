"""What must be true of a replica, by the promise alone: for R28.

Each backup is a minute. Nothing here knows names, zones, receipts, or anything of the program but the verdict it judges.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from restore_core.catalog import CatalogEntry
from restore_core.replication.selection import RuleDecision, Verdict

EPOCH = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HOUR, DAY = 60, 1440


@dataclass(slots=True)
class Replica:
    """One destination as it truly is: which backup was restored there last (its minute), and whether it is that still."""

    holds: int | None = None
    exists: bool = False
    ours: bool = False
    days: int = 0


@dataclass(slots=True)
class Model:
    """The truth, in minutes. `lines` are (path, minute written, minute of the backup); `shelf` says where each backup lies."""

    now: int = 100 * DAY
    offset: int = 0
    shelf: dict[int, set[str]] = field(default_factory=dict)
    moved: dict[int, set[str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    paths: list[Replica] = field(default_factory=lambda: [Replica(), Replica(days=1)])
    lines: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def clock(self) -> int:
        """What the wall shows."""
        return self.now + self.offset

    def wrong(self, number: int, decision: RuleDecision) -> str:
        """What is wrong with a decision, by the promise alone; "" for nothing."""
        path = self.paths[number]
        lines = [(written, backup) for at, written, backup in self.lines if at == number]
        offered = [backup for backup in self.shelf if backup <= self.clock - path.days * DAY]
        asked = max(offered, default=None)
        mine = path.holds if path.exists and path.ours else None
        if decision.verdict is Verdict.RESTORE:
            return self._wrong_restore(asked, lines, path, decision)
        if decision.verdict is Verdict.CURRENT:
            return "" if mine is not None and mine == asked else f"up to date with {mine}, asked for {asked}"
        if asked is None:
            return ""
        may, said = self._may(asked, lines, path), "OLDER" in decision.reason
        foreign, gone = path.exists and not path.ours, lines and not path.exists
        if may and not foreign and not gone and self.shelf[asked] - self.silent:
            return f"{asked} is not restored over {mine}"
        if mine is not None and said is (may or mine == asked):
            return f"OLDER is {'' if said else 'not '}said of {mine}, asked for {asked}"
        return ""

    def _wrong_restore(self, asked: int | None, lines: list[tuple[int, int]], path: Replica, decision: RuleDecision) -> str:
        taken = minute_of(decision.entry)
        if taken is None or taken != asked:
            return f"restores {taken}, asked for {asked}"
        newest = max((backup for written, backup in lines if written <= self.clock), default=-1)
        if taken <= newest:
            return f"back to {taken} from the line of {newest}"
        if lines and path.exists and path.holds is not None and taken < path.holds <= self.clock:
            return f"back to {taken} from {path.holds}, which lies there"
        if path.exists and not path.ours:
            return f"over a disk that somebody wrote: {path}"
        return "a path that is gone is made anew" if lines and not path.exists else ""

    def _may(self, asked: int, lines: list[tuple[int, int]], path: Replica) -> bool:
        """Whether `asked` is newer than all that counts; what has a line is never restored again."""
        if any(backup == asked or (written <= self.clock and asked <= backup) for written, backup in lines):
            return False
        there = path.holds if path.exists and path.ours and lines else None
        return there is None or there <= asked or there > self.clock + HOUR


def minute_of(entry: CatalogEntry | None) -> int | None:
    return None if entry is None else int((entry.time - EPOCH).total_seconds()) // 60


def at(minute: int) -> dt.datetime:
    return EPOCH + dt.timedelta(minutes=minute)
