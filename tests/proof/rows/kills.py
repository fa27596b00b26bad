"""R1, R3: the worker dies at every call that changes something, also while it recovers; the next one completes the job.

The worker waits until strace is attached; the n-th call of a name then never happens: SIGKILL comes first. What people can
see and start is looked at right after the death and again after the recovery.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.spool.layout import State
from phd_daemon.spool.purge import purge
from restore_core.targets.base import ArchiveRef
from tests.phd_daemon.small_backup import VMX
from tests.proof import tracing
from tests.proof.host import DISK, FLAT, Host, Stock, stock
from tests.proof.scoreboard import Figure, Round, Row

JOB = "crm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One kind of restore: what is asked, what lies there before, what lies there afterwards."""

    name: str
    delta: ArchiveRef
    before: ArchiveRef | None = None
    more: str = ""
    beside: tuple[str, ...] = ()

    def host(self, folder: Path, goods: Stock) -> Host:
        """An installation in which the job waits."""
        host = Host(folder, goods)
        if self.before is not None:
            host.submit("before", self.before)
            host.run_all()
        host.submit(JOB, self.delta, more=self.more)
        host.settle()
        return host


def ways(goods: Stock) -> list[Way]:
    return [
        Way(name="new", delta=goods.today),
        Way(name="refresh", delta=goods.today, before=goods.yesterday, more="overwrite = true\n"),
        Way(name="vmx", delta=goods.with_vmx, more='vmx = "as-is"\n', beside=("CRM.vmx",)),
    ]


class Bench:
    """Runs one way again and again, each time in a folder of its own."""

    def __init__(self, folder: Path, goods: Stock, way: Way) -> None:
        self.folder, self.goods, self.way = folder / way.name, goods, way
        self.folder.mkdir()
        self.missed = 0

    def points(self, *dead: tracing.Point) -> list[tracing.Point]:
        """Where an attempt changes something, after attempts that died at `dead`."""
        host = self.way.host(self.folder / "traced", self.goods)
        for point in dead:
            self.attempt(host, point)
            host.settle()
        if JOB not in host.states() or host.states()[JOB].final:
            found = []
        else:
            self.attempt(host, None)
            found = [point for point, _ in tracing.changes(self.folder / "trace")]
        shutil.rmtree(host.folder)
        return found

    def attempt(self, host: Host, point: tracing.Point | None) -> bool:
        """Whether the worker died at the point."""
        pid = host.begin(JOB, held=True)
        os.waitpid(pid, os.WUNTRACED)
        more = () if point is None else ("-e", f"inject={point[0]}:signal=KILL:when={point[1]}")
        calls = tracing.CHANGES if point is None else point[0]
        status = tracing.finish(pid, tracing.attached(pid, self.folder / "trace", *more, calls=calls))
        host.ended(JOB, status)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def survives(self, *points: tracing.Point) -> str:
        """Die at each of the points, one attempt after the other, then recover. What went wrong; empty if nothing did."""
        host = self.way.host(self.folder / "killed", self.goods)
        try:
            for point in points:
                self.missed += not self.attempt(host, point)  # that call was another thread's this time
                if (seen := host.disk()) not in self._allowed():
                    return f"a bad disk under its final name ({len(seen or b'')} bytes)"
                host.recover()
                host.settle()
                if host.states().get(JOB) is State.DONE:
                    break
            host.run_all()
            return self._wrong_at_last(host)
        finally:
            shutil.rmtree(host.folder)

    def _allowed(self) -> tuple[bytes | None, ...]:
        new = self.goods.bytes_of[self.way.delta]
        old = self.goods.bytes_of[self.way.before] if self.way.before else None
        return new, old, None

    def _wrong_at_last(self, host: Host) -> str:
        if host.states().get(JOB) is not State.DONE:
            return f"the job ended as {host.states().get(JOB)}: {host.spool.log(JOB).read_text().splitlines()[-1]}"
        if host.disk() != self.goods.bytes_of[self.way.delta]:
            return "the disk is not what was backed up"
        if self.way.beside and (host.datastore / self.way.beside[0]).read_bytes() != VMX:
            return "the VMX is not what was backed up"
        # What every daemon does from time to time: no half of a replacement in the spool is an hour old.
        purge(host.spool, older_than=1e9, now=time.time() + 7200, busy=())
        return f"left behind: {stray}" if (stray := host.stray(DISK, FLAT, *self.way.beside)) else ""


def once(asked: Round) -> Figure:
    dice = asked.dice()
    goods = stock(asked.folder / "stock", dice)
    wrong, tried, missed, note = [], 0, 0, []
    for way in ways(goods):
        bench = Bench(asked.folder, goods, way)
        every = bench.points()
        points = sorted(dice.sample(every, asked.times(len(every))))
        for point in points:
            said = bench.survives(point)
            wrong += [f"{way.name}, killed at {point[0]} {point[1]}: {said}"] if said else []
        tried += len(points)
        missed += bench.missed
        note.append(f"{way.name} {len(points)}")
    return Figure(held=tried - len(wrong), of=tried, note="; ".join([", ".join(note), f"{missed} went by", *wrong[:1]]))


def twice(asked: Round) -> Figure:
    dice = asked.dice()
    goods = stock(asked.folder / "stock", dice)
    wrong, tried, missed = [], 0, 0
    for way in ways(goods):
        bench = Bench(asked.folder, goods, way)
        for first in dice.sample(bench.points(), asked.times(12)):
            again = bench.points(first)
            for second in dice.sample(again, min(len(again), 8)):
                tried += 1
                if said := bench.survives(first, second):
                    wrong.append(f"{way.name}, killed at {first[0]} {first[1]}, then at {second[0]} {second[1]}: {said}")
        missed += bench.missed
    return Figure(held=tried - len(wrong), of=tried, note="; ".join([f"{missed} second deaths went by", *wrong[:1]]))


ROWS = (
    Row(
        id="R1",
        what="worker killed at every call that changes something: new disk, refresh, VMX",
        target="all: disk exact, no bad disk under a final name, no lost job, nothing left behind",
        run=once,
        mutants=("kills:half_applied_disks_are_shown", "kills:a_part_is_believed", "kills:halves_have_any_name"),
        mutant_share=1.0,
        short=0.1,
    ),
    Row(
        id="R3",
        what="worker killed, and the next one too while it recovers",
        target="all, as R1",
        run=twice,
        mutants=("kills:a_part_is_believed", "kills:two_deaths_are_the_end"),
        mutant_share=0.6,
    ),
)
