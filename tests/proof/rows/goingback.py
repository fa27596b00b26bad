"""R28: a replica never goes back by itself, and is called up to date only when it is.

Random histories of one disk and two rules for it: backups appear, vanish and return, targets are emptied and fall silent,
lines of the ledger are deleted, days change, people restore by hand and write into a disk, the clock steps. After every
pass its decisions are held against `Model`, which knows each backup by a number and a minute, and nothing of names, zones,
receipts or of the program.
"""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from restore_core.catalog import CatalogEntry
from restore_core.replication.ledger import LedgerLine, parse_ledger, render
from restore_core.replication.selection import Decision, Destination, Policy, Verdict, World, select
from tests.proof.scoreboard import Figure, Round, Row
from tests.restore_core.replication.facts import HOME, delta, rule

EPOCH = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
PATHS = (HOME, HOME.with_name("late.vmdk"))
TARGETS = ("nas1", "vmfs")
HOUR, DAY = 60, 1440
STEPS = 40
LONG_AHEAD = 5 * 365 * DAY


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

    def wrong(self, number: int, decision: Decision) -> str:
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

    def _wrong_restore(self, asked: int | None, lines: list[tuple[int, int]], path: Replica, decision: Decision) -> str:
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


def backup(minute: int, target: str) -> CatalogEntry:
    return delta(f"{at(minute):%Y-%m-%d %H:%M}", target=target)


class History:
    """One random life of two replicas, with the real ledger text and the real selection."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.model = Model()
        self.text: list[str] = []
        self.told: list[str] = []

    def run(self) -> str:
        """What went wrong first, with what led to it; "" for nothing."""
        for _ in range(STEPS):
            self.model.now += self.dice.randrange(1, 9 * HOUR)
            self._happen()
            if self.dice.random() < 0.6 and (why := self._pass()):
                return f"{why} after {'; '.join(self.told[-8:])}"
        return ""

    def _happen(self) -> None:
        events = (
            *(self._appears,) * 5,
            *(self._vanishes,) * 3,
            *(self._returns,) * 2,
            self._empty_or_silent,
            *(self._line_deleted,) * 2,
            self._days_change,
            *(self._by_hand,) * 2,
            self._written_or_removed,
            self._clock_steps,
        )
        event = self.dice.choice(events)
        event()
        self.told.append(f"{event.__name__[1:]} at {self.model.clock}")

    def _appears(self) -> None:
        """Named by the wall clock, as backups are."""
        minute = self.model.clock
        if minute not in self.model.moved:
            self.model.shelf.setdefault(minute, set()).update(self.dice.choices(TARGETS, k=2))

    def _vanishes(self) -> None:
        if self.model.shelf:
            # More often than not the newest: that is what a replica follows.
            minute = max(self.model.shelf) if self.dice.random() < 0.6 else self.dice.choice([*self.model.shelf])
            self.model.moved[minute] = self.model.shelf.pop(minute)

    def _returns(self) -> None:
        if self.model.moved:
            minute = self.dice.choice([*self.model.moved])
            self.model.shelf.setdefault(minute, set()).update(self.model.moved.pop(minute))

    def _empty_or_silent(self) -> None:
        target = self.dice.choice(TARGETS)
        if self.dice.random() < 0.5:
            self.model.silent ^= {target}
            return
        for minute in [*self.model.shelf]:
            if target in self.model.shelf[minute]:
                self.model.moved.setdefault(minute, set()).add(target)
                self.model.shelf[minute].discard(target)
                if not self.model.shelf[minute]:
                    del self.model.shelf[minute]

    def _line_deleted(self) -> None:
        """One, those of a path, or all."""
        if not self.text:
            return
        how, path = self.dice.random(), self.dice.randrange(2)
        gone = {self.dice.randrange(len(self.text))} if how < 0.6 else set(range(len(self.text)))
        if 0.6 <= how < 0.8:
            gone = {number for number in gone if self.model.lines[number][0] == path}
        self.text = [line for number, line in enumerate(self.text) if number not in gone]
        self.model.lines = [line for number, line in enumerate(self.model.lines) if number not in gone]

    def _days_change(self) -> None:
        self.dice.choice(self.model.paths).days = self.dice.choice((0, 0, 1, 2, 5))

    def _by_hand(self) -> None:
        """A person restores whatever they like, with overwrite; no line is written."""
        path = self.dice.choice(self.model.paths)
        if self.model.shelf:
            path.holds, path.exists, path.ours = self.dice.choice([*self.model.shelf]), True, True

    def _written_or_removed(self) -> None:
        path = self.dice.choice(self.model.paths)
        path.ours = False
        path.exists = path.exists and self.dice.random() < 0.6

    def _clock_steps(self) -> None:
        """Ahead by hours, or by years, or back to the truth."""
        self.model.offset = self.dice.choice((0, 0, 7, 5 * HOUR, LONG_AHEAD)) if not self.model.offset else 0

    def _pass(self) -> str:
        model = self.model
        rules = [rule(path.days, to=to) for path, to in zip(model.paths, PATHS, strict=True)]
        decisions = select(rules, self._world(), Policy())
        for number, decision in enumerate(decisions):
            if why := model.wrong(number, decision):
                return f"{why} ({decision.verdict.value}: {decision.reason})"
            if decision.verdict is Verdict.RESTORE and decision.entry is not None:
                self._restored(number, decision.entry)
        self.told.append(f"pass {[one.verdict.value for one in decisions]}")
        return ""

    def _world(self) -> World:
        model = self.model
        return World(
            entries=[backup(minute, target) for minute, targets in model.shelf.items() for target in targets],
            ledger=parse_ledger("".join(f"{line}\n" for line in self.text).encode()),
            jobs=[],
            destinations={to: self._destination(path) for path, to in zip(model.paths, PATHS, strict=True)},
            now=at(model.clock),
            silent=dict.fromkeys(model.silent, "does not answer"),
            zones=dict.fromkeys(TARGETS, ZoneInfo("UTC")),
        )

    def _destination(self, path: Replica) -> Destination:
        if not (path.exists and path.ours and path.holds is not None):
            return Destination(exists=path.exists)
        held = backup(path.holds, self.dice.choice(TARGETS))
        return Destination(exists=True, ours=True, archive=held.ref, taken=held.time)

    def _restored(self, number: int, entry: CatalogEntry) -> None:
        """What a job does: the disk, then its line."""
        minute = minute_of(entry)
        path = self.model.paths[number]
        path.holds, path.exists, path.ours = minute, True, True
        line = LedgerLine(time=at(self.model.clock), archive=entry.ref, destination=PATHS[number], job="auto-x")
        self.text.append(render(line))
        self.model.lines.append((number, self.model.clock, minute or 0))


def life(seed: int) -> str:
    why = History(random.Random(seed)).run()
    return f"history {seed}: {why}" if why else ""


def run(asked: Round) -> Figure:
    dice = asked.dice()
    count = asked.times(2500)
    wrong = [why for _ in range(count) if (why := life(dice.getrandbits(32)))]
    return Figure(held=count - len(wrong), of=count, note="; ".join([f"{count} histories of {STEPS} steps", *wrong[:2]]))


ROWS = (
    Row(
        id="R28",
        what="going back: backups, targets, ledger lines, days, clocks and people, as they come, against a simple model",
        target='0 replicas that go back by themselves, 0 false "up to date"',
        run=run,
        mutants=(
            "goingback:the_newest_that_is_there",
            "goingback:the_receipt_does_not_count",
            "goingback:the_receipt_counts_for_ever",
            "goingback:lines_from_the_future_count",
            "goingback:up_to_date_by_the_ledger",
            "goingback:older_is_not_said",
        ),
        mutant_share=0.04,
        short=0.04,
    ),
)
