"""R22: one daemon, four workers, 500 jobs of which one in ten meets a fault: nothing grows, nothing is forgotten."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.spool.job_log import CAP_BYTES
from phd_daemon.spool.layout import State
from restore_core.targets.base import ArchiveRef
from tests.proof.host import stock
from tests.proof.scoreboard import Figure, Round, Row
from tests.proof.served import PATIENCE, Served

JOBS = 500
WARM = 0.2
"""The share of the jobs after which the daemon has all that it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, the fault it meets, and its end."""

    name: str
    fault: str
    ends: State


FAULTS = {
    "kill": State.DONE,
    "stop": State.DONE,
    "absent": State.FAILED,
    "damaged": State.FAILED,
    "exists": State.FAILED,
    "grammar": State.REJECTED,
    "outside": State.REJECTED,
}


def plan(dice: random.Random, count: int) -> list[Job]:
    """Which job meets which fault; of those that stand still only a few, since each takes its time."""
    jobs, stopped = [], 0
    for number in range(count):
        fault = dice.choice(sorted(FAULTS)) if dice.random() < 0.1 else "" if number else "stop"
        if fault == "stop" and (stopped := stopped + 1) > 3:
            fault = "kill"
        jobs.append(Job(name=f"job-{fault or 'good'}-{number}", fault=fault, ends=FAULTS.get(fault, State.DONE)))
    return jobs


def submit(host: Served, job: Job, damaged: ArchiveRef) -> None:
    ref, disk, more = host.goods.with_vmx, f"{job.name}.vmdk", ""
    if job.fault == "absent":
        ref = ArchiveRef(target=ref.target, path=ref.path.replace("1601-", "1602-"))
    elif job.fault == "damaged":
        ref = damaged
    elif job.fault == "exists":
        (host.datastore / f"{job.name}-flat.vmdk").write_bytes(b"somebody's")
    elif job.fault == "grammar":
        more = "overwrite = perhaps\n"
    elif job.fault == "outside":
        disk = "../../../etc/shadow.vmdk"
    host.submit(job.name, ref, disk=disk, more=more)


def damage(host: Served) -> ArchiveRef:
    """A copy of the backup in a folder of its own, one bit of whose Full is another."""
    ref = host.goods.with_vmx
    folder = host.goods.folder / Path(ref.path).parent
    copy = folder.parent.parent / "damaged" / folder.name
    copy.mkdir(parents=True)
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        if ".gz-" in path.name:
            data[len(data) // 2] ^= 1
        (copy / path.name).write_bytes(data)
    return ArchiveRef(target=ref.target, path=f"damaged/{folder.name}/{Path(ref.path).name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a process has: open files, resident KiB, children that nobody waited for."""

    files: tuple[str, ...]
    memory: int
    zombies: int


def size_of(pid: int) -> Size:
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Size(files=_files(pid), memory=memory, zombies=sum(map(_is_zombie, children)))


def _files(pid: int) -> tuple[str, ...]:
    """What each open file is, numbers left out."""
    folder = Path(f"/proc/{pid}/fd")
    return tuple(sorted(re.sub(r"\d+", "N", os.readlink(folder / name)) for name in os.listdir(folder)))


def _is_zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return False


def at_rest(host: Served) -> Size:
    """The daemon's size once its queue is empty: no worker is left that it holds a file for."""
    if host.daemon is None:
        raise AssertionError("no daemon")
    host.until_finished()
    end = time.monotonic() + PATIENCE
    while Path(f"/proc/{host.daemon.pid}/task/{host.daemon.pid}/children").read_text().split() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.0)
    return size_of(host.daemon.pid)


def soak(asked: Round) -> Figure:
    dice = asked.dice()
    goods = stock(asked.folder / "stock", dice)
    host = Served(asked.folder / "host", goods)
    (host.folder / "witness").mkdir()
    damaged, jobs = damage(host), plan(dice, asked.times(JOBS))
    first = max(4, round(len(jobs) * WARM))
    host.up()
    for job in jobs[:first]:
        submit(host, job, damaged)
    before = at_rest(host)
    for job in jobs[first:]:
        submit(host, job, damaged)
    after = at_rest(host)
    host.down(signal.SIGTERM)
    states = host.states()
    wrong = [f"{job.name} is {states.get(job.name)}" for job in jobs if states.get(job.name) is not job.ends]
    right = goods.bytes_of[goods.with_vmx]
    wrong += [f"{job.name}: not the disk" for job in jobs if job.ends is State.DONE and host.disk(f"{job.name}.vmdk") != right]
    logs = max(path.stat().st_size for path in host.spool.folder.glob("*.log"))
    growth = (after.memory - before.memory) / before.memory
    more = Counter(after.files) - Counter(before.files)
    wrong += [f"more open files: {dict(more)}"] if more else []
    wrong += [f"memory grew by {growth:.1%}"] if growth >= 0.05 else []
    wrong += [f"{after.zombies} zombies"] if after.zombies else []
    wrong += [f"a log of {logs} bytes"] if logs > CAP_BYTES else []
    wrong += [f"two workers at {job}" for job in host.two_at_once()]
    note = f"{sum(bool(job.fault) for job in jobs)} faults, files {len(before.files)} to {len(after.files)}, memory {growth:+.1%}"
    return Figure(held=max(0, len(jobs) - len(wrong)), of=len(jobs), note="; ".join([note, *wrong[:1]]))


ROWS = (
    Row(
        id="R22",
        what="soak: 4 workers, 500 jobs, one in ten with a fault (killed, stopped, absent, damaged, in the way, wrong)",
        target="every job ends as it must; no more open files, memory < +5 %, no zombies, logs below their cap",
        run=soak,
        mutants=("daemons:ends_are_not_closed", "daemons:the_lock_is_not_asked", "daemons:nobody_hangs"),
        mutant_share=0.1,
    ),
)
