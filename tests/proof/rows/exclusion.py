"""R19: one writer a disk: two daemons, two jobs by two paths, a running VM, lock files, another process at the part file."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.spool.layout import FINAL, State
from restore_core import durable
from restore_core.disk.hold import take_hold
from restore_core.targets.base import ArchiveRef
from tests.lab import Lab
from tests.proof.daemon import PHD, Daemon, Silent, serving
from tests.proof.scoreboard import Figure, NotRun, Round, Row

PATIENCE = 20.0


class Goods:
    """Two disks of one VM, yesterday's and today's, in a target of their own."""

    def __init__(self, asked: Round) -> None:
        dice, self.lab = asked.dice(), Lab(asked.folder / "lab")
        old = dice.randbytes(12 << 20) + bytes(4 << 20)
        self.old, self.new = old, dice.randbytes(1 << 20) + old[1 << 20 :]
        self.yesterday: ArchiveRef = self.lab.backup(self.old).delta
        self.today: ArchiveRef = self.lab.backup(self.new).delta

    def installation(self, folder: Path) -> Daemon:
        """A daemon with two workers over that target."""
        return Daemon(folder, f'[targets.t]\nurl = "file://{self.lab.store}"\n', queue="workers = 2")


def drop(daemon: Daemon, name: str, delta: ArchiveRef, to: str) -> None:
    """A job that may overwrite, at any path."""
    aside = daemon.spool / f".{name}.new"
    aside.write_text(f'delta = "{delta}"\nrestore_to = "{to}"\noverwrite = true\n')
    aside.rename(daemon.spool / f"{name}.job")


def end_of(daemon: Daemon, name: str) -> str:
    """The final state, or "waits" once it was tried and is to be tried again; what else there is after some time."""

    def settled() -> bool:
        status = daemon.status(name)
        return daemon.state_of(name) in FINAL or (
            daemon.state_of(name) is State.WAITING and status is not None and status.next_try is not None
        )

    try:
        daemon.until(settled, name, seconds=PATIENCE)
    except Silent as silent:
        return str(silent)[:200]
    state = daemon.state_of(name)
    return "waits" if state is State.WAITING else state.value if state else "gone"


def reason(daemon: Daemon, name: str) -> str:
    """Why it waits, or how it ended."""
    status = daemon.status(name)
    return (status.why_waiting or daemon.why(name)) if status else ""


def two_daemons_one_spool(daemon: Daemon) -> Iterator[tuple[str, bool]]:
    command = [str(PHD), "daemon", "--config", str(daemon.settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as second:
        try:
            said, _ = second.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            second.terminate()
            said = "it serves the same spool"
    yield f"a second daemon: {said.strip()[:80]}", second.returncode == 75 and "already running" in said


@contextlib.contextmanager
def aliases(daemon: Daemon) -> Iterator[dict[str, Path]]:
    """Other paths to the datastore: a link, and a bind mount where one can be made."""
    link, bound = daemon.datastore.with_name("alias"), daemon.datastore.with_name("bound")
    link.symlink_to(daemon.datastore)
    bound.mkdir()
    mounted = (
        subprocess.run(["mount", "--bind", str(daemon.datastore), str(bound)], capture_output=True, check=False).returncode == 0
    )
    found = {"the same path": daemon.datastore, "a link": link}
    try:
        yield {**found, "a bind mount": bound} if mounted else found
    finally:
        if mounted:
            subprocess.run(["umount", str(bound)], check=False)


def two_jobs_one_disk(daemon: Daemon, goods: Goods) -> Iterator[tuple[str, bool]]:
    with aliases(daemon) as paths:
        for number, (what, path) in enumerate(paths.items()):
            names = (f"a{number}", f"b{number}")
            drop(daemon, names[0], goods.yesterday, f"{daemon.datastore}/two{number}.img")
            drop(daemon, names[1], goods.today, f"{path}/two{number}.img")
            ends = [end_of(daemon, name) for name in names]
            spans = [_span(daemon, name) for name in names]
            apart = max(span[0] for span in spans) >= min(span[1] for span in spans)
            yield f"two jobs, {what}: {ends}, {spans}", ends == ["done", "done"] and apart
            yield f"the disk by {what}", daemon.disk(f"two{number}") in (goods.old, goods.new)


def _span(daemon: Daemon, name: str) -> tuple[float, float]:
    status = daemon.status(name)
    if status is None or status.started_at is None or status.finished_at is None:
        return 0.0, time.time()
    return status.started_at, status.finished_at


def a_running_vm(daemon: Daemon, goods: Goods) -> Iterator[tuple[str, bool]]:
    to = daemon.datastore / "vm" / "CRM.vmdk"
    flat = to.with_name("CRM-flat.vmdk")
    drop(daemon, "vm", goods.yesterday, str(to))
    yield "a first restore", end_of(daemon, "vm") == "done"
    holding = ["qemu-io", "-f", "vmdk", str(to)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as qemu:
        if qemu.stdin is None or qemu.stdout is None:
            raise AssertionError
        qemu.stdin.write(b"length\n")
        qemu.stdin.flush()
        qemu.stdout.readline()
        drop(daemon, "over-vm", goods.today, str(to))
        ended = end_of(daemon, "over-vm")
        yield (
            f"over a running VM: {ended}, {reason(daemon, 'over-vm')[:80]}",
            ended == "waits" and "in use" in reason(daemon, "over-vm"),
        )
        yield "the running VM's disk is unchanged", flat.read_bytes() == goods.old
        qemu.stdin.close()
    os.utime(daemon.spool / "over-vm.job")  # a person says: now; the next drop rings the bell for it
    drop(daemon, "bell", goods.today, f"{daemon.datastore}/bell.img")
    daemon.until(lambda: daemon.state_of("over-vm") in FINAL, "over-vm", seconds=PATIENCE)
    yield "once it is off, it is replaced", flat.read_bytes() == goods.new


def lock_files(daemon: Daemon, goods: Goods) -> Iterator[tuple[str, bool]]:
    for name, folder in (("file", False), ("folder", True)):
        disk = daemon.datastore / f"lck-{name}.img"
        disk.write_bytes(b"a disk of somebody")
        lock = disk.with_name(disk.name + ".lck")
        lock.mkdir() if folder else lock.write_text("esx7")
        drop(daemon, f"lck-{name}", goods.today, str(disk))
        ended = end_of(daemon, f"lck-{name}")
        yield f"a lock {name}: {ended}", ended == "waits" and ".lck" in reason(daemon, f"lck-{name}")
        yield f"its disk, {name}", disk.read_bytes() == b"a disk of somebody" and lock.exists()


def another_process(daemon: Daemon, goods: Goods) -> Iterator[tuple[str, bool]]:
    """Somebody restores to that disk in the foreground, and holds it."""
    folder = os.open(daemon.datastore, os.O_RDONLY)
    held = take_hold(folder, "held.img", "held.img")
    part = durable.take_part("held.img.phd-new", dir_fd=folder, keep=True)
    os.write(part, b"being written")
    drop(daemon, "held", goods.today, f"{daemon.datastore}/held.img")
    ended = end_of(daemon, "held")
    yield f"another process at it: {ended}", ended == "waits"
    yield "what it has written", os.pread(part, 100, 0) == b"being written" and daemon.disk("held") is None
    held.release()
    for fd in (part, folder):
        os.close(fd)


def two_spools_one_disk(daemon: Daemon, other: Daemon, goods: Goods, rounds: int) -> Iterator[tuple[str, bool]]:
    for number in range(rounds):
        to = f"both{number}.img"
        drop(daemon, f"one{number}", goods.yesterday, f"{daemon.datastore}/{to}")
        drop(other, f"two{number}", goods.today, f"{other.datastore}/{to}")
        ends = {end_of(daemon, f"one{number}"), end_of(other, f"two{number}")}
        yield f"two daemons, one disk: {ends}", "done" in ends and ends <= {"done", "waits"}
        yield "is one of both, whole", daemon.disk(f"both{number}") in (goods.old, goods.new)


def _cases(asked: Round) -> Iterator[tuple[str, bool]]:
    goods = Goods(asked)
    daemon, other = goods.installation(asked.folder / "host"), goods.installation(asked.folder / "other")
    shutil.rmtree(other.datastore)
    other.datastore.symlink_to(daemon.datastore)
    with serving(daemon), serving(other):
        yield from two_daemons_one_spool(daemon)
        yield from two_jobs_one_disk(daemon, goods)
        yield from a_running_vm(daemon, goods)
        yield from lock_files(daemon, goods)
        yield from another_process(daemon, goods)
        yield from two_spools_one_disk(daemon, other, goods, asked.times(8))


def exclusion(asked: Round) -> Figure:
    if shutil.which("qemu-io") is None:
        raise NotRun("qemu-io is not installed (Debian package qemu-utils)")
    found: list[tuple[str, bool]] = []
    broke = ""
    try:
        found.extend(_cases(asked))
    except Silent as silent:
        broke = str(silent)
    wrong = [what for what, held in found if not held] + [broke] * bool(broke)
    return Figure(held=len(found) - len(wrong) + bool(broke), of=len(found) + bool(broke), note="; ".join(wrong[:3]))


ROWS = (
    Row(
        id="R19",
        what="one writer a disk",
        target="0 concurrent writers; the disk of a running VM unchanged",
        run=exclusion,
        mutants=(
            "exclusion:every_path_is_another_disk",
            "exclusion:nobody_is_asked",
            "exclusion:the_part_is_anybodys",
            "exclusion:as_many_daemons_as_you_like",
        ),
        short=0.1,
    ),
)
