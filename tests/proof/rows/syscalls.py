"""R4: each call that a worker makes to the disk fails, once or from then on, with each of six errors.

Whatever fails: the job says "done" only of a disk that is exact, ends with a reason that names what failed, without a traceback,
and leaves no part file behind once it has failed for good.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time

from phd_daemon.spool.layout import State
from phd_daemon.spool.status_file import read_status
from tests.proof import tracing
from tests.proof.host import DISK, FLAT, Host, stock
from tests.proof.rows.kills import JOB, Bench, ways
from tests.proof.scoreboard import Figure, Round, Row

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENOMEM")
CASES = 300
PATIENCE = 2.0
"""Seconds that an attempt gets: one that waits for room, say, is killed then, as a person may do."""
CALLS = "openat,read,pread64,write,pwrite64,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,fsync,fchmod"


Place = tuple[tracing.Point, str]
"""A call, and its arguments with the paths behind its descriptors."""


def hurry() -> None:
    """Workers are forks of this process: their pauses between tries are short."""
    sleep = time.sleep
    setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))  # noqa: B010  mypy forbids the plain form


def places(bench: Bench) -> list[Place]:
    """Calls of an undisturbed attempt that touch the archives, the datastore, the spool or the catalog."""
    host = bench.way.host(bench.folder / "traced", bench.goods)
    pid = host.begin(JOB, held=True)
    os.waitpid(pid, os.WUNTRACED)
    tracing.finish(pid, tracing.attached(pid, bench.folder / "trace", "-y", calls=CALLS))
    shutil.rmtree(host.folder)
    found = tracing.every(bench.folder / "trace")
    return [(point, rest) for point, rest in found if str(bench.folder.parent) in rest]


def case(bench: Bench, place: Place, error: str, *, for_good: bool) -> str:
    """One attempt with a failing call, then as many as the job gets without. What went wrong; empty if nothing did."""
    (point, rest), host = place, bench.way.host(bench.folder / "failing", bench.goods)
    try:
        pid = host.begin(JOB, held=True)
        os.waitpid(pid, os.WUNTRACED)
        inject = f"inject={point[0]}:error={error}:when={point[1]}{'+' if for_good else ''}"
        tracer = tracing.attached(pid, bench.folder / "trace", "-e", inject, calls=point[0])
        status = tracing.finish(pid, tracer, patience=PATIENCE)
        host.ended(JOB, status)
        if point[0] == "fsync" and "/volumes/" in rest and status == 0:
            return "an fsync that failed was believed"
        return verdict(bench, host, status)
    finally:
        shutil.rmtree(host.folder)


def verdict(bench: Bench, host: Host, status: int) -> str:
    """What the attempt said, against what it did; then the job goes on."""
    seen, right = host.disk(), bench.goods.bytes_of[bench.way.delta]
    old = bench.goods.bytes_of[bench.way.before] if bench.way.before else None
    if seen not in (right, old, None):
        return "a bad disk under its final name"
    said = read_status(host.spool.status(JOB))
    outcome = said.outcome if said is not None else None
    log = host.spool.log(JOB).read_text() if host.spool.log(JOB).exists() else ""
    if "Traceback" in log or "a bug of ours" in log:
        return f"a traceback: {log.strip().splitlines()[-1][:200]}"
    if os.waitstatus_to_exitcode(status) == 0 and (seen != right or outcome is None or outcome.result.value != "done"):
        return "swallowed: it says that it is done"
    if outcome is not None and outcome.result.value != "done" and "/" not in outcome.reason and "phd" not in outcome.reason:
        return f"a reason without a name: {outcome.reason!r}"
    host.recover()
    host.run_all()
    state = host.states().get(JOB)
    if state is State.DONE and host.disk() != right:
        return "done, and the disk is not what was backed up"
    stray = [name for name in host.stray(DISK, FLAT, *bench.way.beside) if ".phd-" in name and not name.endswith(".tmp")]
    return f"{state}, and left behind: {stray}" if stray else "" if state in (State.DONE, State.FAILED) else f"it ended as {state}"


def sample(found: list[tuple[Bench, Place]], dice: random.Random, count: int) -> list[tuple[Bench, Place]]:
    """Of each name of a call as many, the rare ones as often as the frequent ones."""
    by_name: dict[str, list[tuple[Bench, Place]]] = {}
    for bench, place in found:
        by_name.setdefault(place[0][0], []).append((bench, place))
    return [dice.choice(by_name[name]) for _, name in zip(range(count), itertools.cycle(sorted(by_name)), strict=False)]


def errors(asked: Round) -> Figure:
    dice = asked.dice()
    hurry()
    goods = stock(asked.folder / "stock", dice)
    benches = [Bench(asked.folder, goods, way) for way in ways(goods)]
    found = [(bench, place) for bench in benches for place in places(bench)]
    chosen = sample(found, dice, asked.times(CASES))
    wrong = []
    for bench, place in chosen:
        error, for_good = dice.choice(ERRORS), dice.random() < 0.5
        if said := case(bench, place, error, for_good=for_good):
            (name, count), _ = place
            wrong += [f"{bench.way.name}, {error} at {name} {count}{' and after' if for_good else ''}: {said}"]
    note = f"at {len(found)} calls, as many of each name as there are"
    return Figure(held=len(chosen) - len(wrong), of=len(chosen), note="; ".join([note, *wrong[:1]]))


ROWS = (
    Row(
        id="R4",
        what="each call of a worker fails, once or for good, with EIO, ENOSPC, EDQUOT, EROFS, EMFILE, ENOMEM",
        target="0 swallowed, 0 tracebacks, no part file after a failure, a reason that names what failed",
        run=errors,
        mutants=("syscalls:a_failed_fsync_is_forgiven", "syscalls:parts_stay"),
        mutant_share=0.4,
        short=0.05,
    ),
)
