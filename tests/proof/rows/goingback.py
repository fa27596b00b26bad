"""R28: a replica never goes back by itself, and is called up to date only when it is.

Random histories of one disk and two rules for it: backups appear, vanish and return, targets are emptied and fall silent,
lines of the ledger are deleted, days change, people restore by hand and write into a disk, the clock steps. After every
pass its decisions are held against `Model`, which knows nothing of the program. Thousands of them with the real selection and
the real text of the ledger; some with real backups, passes and workers, where the bytes of the disk are compared, too.
"""

from __future__ import annotations

import random
from zoneinfo import ZoneInfo

from restore_core.catalog import CatalogEntry
from restore_core.replication.ledger import LedgerLine, parse_ledger, render
from restore_core.replication.selection import DiskState, PassPolicy, Verdict, World, select
from tests.proof.real_replica import RealHistory, library
from tests.proof.replica_model import DAY, HOUR, Model, Replica, at, minute_of
from tests.proof.scoreboard import Figure, Round, Row
from tests.restore_core.replication.facts import HOME, delta, rule

PATHS = (HOME, HOME.with_name("late.vmdk"))
TARGETS = ("nas1", "vmfs")
STEPS = 40
LONG_AHEAD = 5 * 365 * DAY


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
        decisions = select(rules, self._world(), PassPolicy())
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

    def _destination(self, path: Replica) -> DiskState:
        if not (path.exists and path.ours and path.holds is not None):
            return DiskState(exists=path.exists)
        held = backup(path.holds, self.dice.choice(TARGETS))
        return DiskState(exists=True, ours=True, archive=held.ref, taken=held.time)

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
    count, real = asked.times(2200), asked.times(30)
    wrong = [why for _ in range(count) if (why := life(dice.getrandbits(32)))]
    goods = library(asked.folder / "library")
    for number in range(real):
        why = RealHistory(asked.folder / f"host{number}", goods, dice).run()
        wrong += [f"real history {number}: {why}"] if why else []
    of = count + real
    note = f"{count} histories of {STEPS} steps, {real} with real passes and disks"
    return Figure(held=of - len(wrong), of=of, note="; ".join([note, *wrong[:2]]))


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
            "goingback:receipts_are_not_asked",
        ),
        mutant_share=0.1,
        short=0.04,
    ),
)
