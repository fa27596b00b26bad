"""R2: the daemon is killed again and again, at any moment and at each call that changes something, over a full queue.

Workers go on without it and are adopted by the next one. Each takes a lock of the harness that no other worker of its job may hold.
"""

from __future__ import annotations

import signal
import subprocess
import time

from phd_daemon.spool.layout import State
from phd_daemon.spool.purge import purge
from restore_core.replication.ledger import read_ledger
from tests.proof import tracing
from tests.proof.host import stock
from tests.proof.scoreboard import Figure, Round, Row
from tests.proof.served import Served

JOBS = 200
KILLS = 30
"""Of each kind."""


def wrong_at_last(host: Served, jobs: list[str]) -> list[str]:
    """Each job that did not come to its end as it must, and why."""
    states, entered = host.states(), [line.job for line in read_ledger(host.ledger).lines]
    right = host.goods.bytes_of[host.goods.with_vmx]
    two = host.two_at_once()
    found = []
    for job in jobs:
        if job in two:
            found.append(f"{job} had two workers at once")
        elif states.get(job) is not State.DONE:
            found.append(f"{job} is {states.get(job)}")
        elif host.disk(f"{job}.vmdk") != right:
            found.append(f"{job}: the disk is not what was backed up")
        elif entered.count(job) != 1:
            found.append(f"{job}: {entered.count(job)} ledger lines")
    purge(host.spool, older_than=1e9, now=time.time() + 7200, busy=())
    disks = [f"{job}{end}" for job in jobs for end in (".vmdk", "-flat.vmdk")]
    stray = [name for name in host.stray(*disks) if name != "catalog"]
    return found + ([f"left behind: {stray[:3]}"] if stray else [])


def traced_points(host: Served) -> list[tracing.Point]:
    """Where a daemon that takes in and starts jobs changes something, startup included."""
    trace = host.folder / "trace"
    host.up(tracing.strace(), "-qq", "-o", str(trace), "-e", f"trace={tracing.CHANGES}")
    time.sleep(2.0)
    if host.daemon is not None:
        children = (line.split() for line in _children(host.daemon.pid))
        for pid in (int(word) for words in children for word in words):
            subprocess.run(["kill", "-9", str(pid)], check=False)
    host.down(signal.SIGKILL)
    lines = "\n".join(f"1 {line}" for line in trace.read_text(errors="replace").splitlines())
    trace.write_text(lines)
    return [point for point, _ in tracing.changes(trace)]


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().splitlines()


def kills(asked: Round) -> Figure:
    dice = asked.dice()
    goods = stock(asked.folder / "stock", dice)
    host = Served(asked.folder / "host", goods)
    (host.folder / "witness").mkdir()
    jobs = [f"auto-{number}" for number in range(asked.times(JOBS))]
    for job in jobs:
        host.submit(job, goods.with_vmx, disk=f"{job}.vmdk")
    points = traced_points(host)
    killed = [0, 0]
    for _ in range(asked.times(KILLS)):
        if not host.unfinished():
            break
        host.up()
        time.sleep(dice.uniform(0.25, 0.7))
        host.down(signal.SIGKILL)
        name, count = dice.choice(points)
        host.up(tracing.strace(), "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={count}")
        end = time.monotonic() + 1.5
        while host.daemon is not None and host.daemon.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        killed[1] += host.daemon is not None and host.daemon.poll() is not None
        killed[0] += 1
        _end_traced(host)
    host.up()
    host.until_finished()
    host.down(signal.SIGTERM)
    wrong = wrong_at_last(host, jobs)
    note = f"{killed[0]} kills at random, {killed[1]} at a change of {len(points)}, at most one worker a job"
    return Figure(held=len(jobs) - len(wrong), of=len(jobs), note="; ".join([note if not wrong else note[:-26], *wrong[:1]]))


def _end_traced(host: Served) -> None:
    """End a daemon under strace that did not come to its point: itself first, then its tracer goes by itself."""
    if host.daemon is None or host.daemon.poll() is not None:
        host.daemon = None
        return
    for line in _children(host.daemon.pid):
        for pid in line.split():
            subprocess.run(["kill", "-9", pid], check=False)
    host.daemon.wait(30)
    host.daemon = None


ROWS = (
    Row(
        id="R2",
        what="daemon killed at random and at each change, over 200 queued jobs with 4 workers",
        target="all done and entered once; never two workers at one job",
        run=kills,
        mutants=("daemons:the_lock_is_not_handed_on", "daemons:the_lock_is_not_asked"),
        mutant_share=0.15,
    ),
)
