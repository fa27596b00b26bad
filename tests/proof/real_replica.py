"""One life of a replica with real backups, real passes, real workers and a real disk, for R28."""

from __future__ import annotations

import datetime as dt
import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.replication import one_pass
from restore_core.backup.run import BackupOptions
from restore_core.backup.subject import Asked
from restore_core.replication.selection import Verdict
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, UUID, Lab
from tests.proof.host import DISK, Host, Stock
from tests.proof.replica_model import EPOCH, Model, Replica, minute_of

HOURS_AGO = (130, 100, 75, 50, 26, 3)
STEPS = 14
LONG_AGO = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """Real backups, each by its minute: where its files lie, and the bytes of its disk."""

    store: Path
    refs: dict[int, ArchiveRef]
    files: dict[int, tuple[Path, ...]]
    bytes_of: dict[int, bytes]


def library(folder: Path) -> Backups:
    """Six of one disk, from days ago to hours ago, each with a Full of its own."""
    lab = Lab(folder)
    now = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    refs, files, bytes_of = {}, {}, {}
    for hours in HOURS_AGO:
        taken, content = now - dt.timedelta(hours=hours), os.urandom(BLOCK) * 2
        asked = Asked(vm="CRM", uuid=UUID, scsi="00")
        made = lab.backup(content, options=BackupOptions(asked=asked, full=True, at=taken, scratch=folder))
        minute = int((taken - EPOCH).total_seconds()) // 60
        refs[minute], bytes_of[minute] = made.delta, content
        files[minute] = tuple(Path(ref.path) for ref in (made.delta, made.full) if ref)
    return Backups(store=lab.store, refs=refs, files=files, bytes_of=bytes_of)


class RealHistory:
    """A random one: what happens to the files, and what the passes make of it."""

    def __init__(self, folder: Path, goods: Backups, dice: random.Random) -> None:
        self.goods, self.dice = goods, dice
        self.target, self.away = folder / "target", folder / "away"
        for place in (self.target, self.away):
            place.mkdir(parents=True)
        anything = next(iter(goods.refs.values()))
        stock = Stock(folder=self.target, yesterday=anything, today=anything, with_vmx=anything, bytes_of={})
        self.host = Host(folder / "host", stock)
        self.model = Model(paths=[Replica()])
        self.path = self.model.paths[0]
        self.told: list[str] = []
        self.present: set[int] = set()
        """Backups whose files are on the target now."""

    def run(self) -> str:
        """What went wrong first, with what led to it; "" for nothing."""
        for _ in range(3):
            self._bring()
        often = (self._bring, self._bring, self._take, self._by_hand, self._by_hand)
        for step in range(STEPS):
            event = self.dice.choice((*often, self._take, self._days, self._delete_lines, self._move))
            event()
            self.told.append(event.__name__[1:])
            if why := self._pass(step):
                return f"{why} after {', '.join(self.told)}"
        return ""

    def _bring(self) -> None:
        """A backup appears, or returns."""
        if missing := [minute for minute in self.goods.refs if minute not in self.present]:
            minute = self.dice.choice(missing)
            for path in self.goods.files[minute]:
                (self.target / path).parent.mkdir(exist_ok=True)
                shutil.copyfile(self.goods.store / path, self.target / path)
                os.utime(self.target / path, (LONG_AGO, LONG_AGO))
            self.present.add(minute)
            self._list()

    def _take(self) -> None:
        """The newest is moved away, or all are."""
        newest_first = sorted(self.present, reverse=True)
        for minute in newest_first if self.dice.random() < 0.1 else newest_first[:1]:
            for path in self.goods.files[minute]:
                (self.target / path).unlink()
            self.present.remove(minute)
        self._list()

    def _list(self) -> None:
        """What a pass knows of the target: one that was emptied is taken for an unmounted one, and its listing stays."""
        self.model.silent = set() if self.present else {"t"}
        if self.present:
            self.model.shelf = {minute: {"t"} for minute in self.present}

    def _by_hand(self) -> None:
        if self.present:
            minute = self.dice.choice(sorted(self.present))
            self.host.submit(f"by-hand-{len(self.told)}", self.goods.refs[minute], more="overwrite = true\n")
            self.host.run_all()
            self.path.holds, self.path.exists, self.path.ours = minute, True, True

    def _days(self) -> None:
        self.path.days = self.dice.choice((0, 0, 1, 3))

    def _delete_lines(self) -> None:
        if self.model.lines:
            number = self.dice.randrange(len(self.model.lines))
            gone = {number} if self.dice.random() < 0.5 else set(range(len(self.model.lines)))
            lines = self.host.ledger.read_text().splitlines(keepends=True)
            self.host.ledger.write_text("".join(line for at, line in enumerate(lines) if at not in gone))
            self.model.lines = [line for at, line in enumerate(self.model.lines) if at not in gone]

    def _move(self) -> None:
        """The replica is moved away, with its descriptor."""
        if self.dice.random() < 0.3:
            for path in self.host.datastore.iterdir():
                path.unlink()
            self.path.exists = self.path.ours = False

    def _pass(self, step: int) -> str:
        rules = Path(self.host.config.replication.rules)
        rules.write_text(f"RESTORE:CRM|{UUID}|00|disk.img|{self.host.datastore / DISK}|-{self.path.days}\n")
        os.utime(rules, (LONG_AGO, LONG_AGO))
        self.model.now = int(time.time() - EPOCH.timestamp()) // 60
        (decision,) = one_pass.run_pass(self.host.config, wait=True).findings.decisions
        if why := self.model.wrong(0, decision):
            return f"{why} ({decision.verdict.value}: {decision.reason})"
        self.host.run_all()
        if decision.verdict is Verdict.RESTORE:
            minute = minute_of(decision.entry) or 0
            self.path.holds, self.path.exists, self.path.ours = minute, True, True
            self.model.lines.append((0, self.model.now, minute))
        self.told.append(f"pass {step}: {decision.verdict.value}")
        there = self.host.disk()
        right = self.goods.bytes_of[self.path.holds] if self.path.exists and self.path.holds is not None else None
        return "" if there == right else f"the disk is not that of {self.path.holds}"
