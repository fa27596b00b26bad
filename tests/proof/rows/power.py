"""R5: the power goes, again and again, on a real ext4 and a real XFS, while jobs are submitted, accepted, run and entered.

The file system is an image behind a loop device; the cut is its own "goingdown" ioctl without a flush of the log: whatever
was not made durable is lost, and the next mount replays the journal. The machine is a process that tells us, over a pipe,
what it was promised: a job that was acknowledged, a ledger line that was written, a job that is done.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from phd_daemon.spool.layout import State
from phd_daemon.spool.status_file import read_status
from restore_core.replication.ledger import read_ledger
from restore_core.targets.base import ArchiveRef
from tests.proof.host import Host, Stock, stock
from tests.proof.scoreboard import Figure, NotRun, Round, Row

_NEW_MOUNT_NAMESPACE = 0x00020000
_GOING_DOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)
REPLICA = "replica.vmdk"
PER_FOLDER = 10
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "ext4": (("mkfs.ext4", "-q", "-F"), ("e2fsck", "-f", "-n"), 256),
    "xfs": (("mkfs.xfs", "-q", "-f"), ("xfs_repair", "-n"), 320),
}
"""How one is made, how it is checked, and how large it is in MiB."""


def alone() -> None:
    """Mounts of this process are its own: no other namespace keeps a file system alive that we unmount, and none outlives us."""
    if os.geteuid() != 0:
        raise NotRun("only root may mount")
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNT_NAMESPACE) != 0:
        raise NotRun(f"no mount namespace to be had: {os.strerror(ctypes.get_errno())}")
    if (done := _run("mount", "--make-rprivate", "/")).returncode != 0:
        raise NotRun(f"mount --make-rprivate: {done.stderr.strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Machine:
    """A computer with one disk, whose power can be cut."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.make, self.check, size = KINDS[kind]
        self.image, self.mount = folder / f"{kind}.img", folder / kind
        for tool in (self.make[0], self.check[0]):
            if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
                raise NotRun(f"{tool} is not installed")
        with self.image.open("wb") as file:
            file.truncate(size << 20)
        self.mount.mkdir()
        made = _run(*self.make, str(self.image))
        if made.returncode != 0:
            raise NotRun(f"{self.make[0]}: {made.stderr.strip()}")
        self.on()

    def on(self) -> None:
        """Mount; the journal is replayed."""
        done = _run("mount", "-o", "loop", str(self.image), str(self.mount))
        if done.returncode != 0:
            raise NotRun(f"mount: {done.stderr.strip()}")

    def off(self) -> None:
        """Unmount; what was killed may still hold a file for a moment."""
        end = time.monotonic() + 30
        while (done := _run("umount", str(self.mount))).returncode != 0:
            if time.monotonic() > end:
                raise NotRun(f"umount: {done.stderr.strip()}")
            time.sleep(0.005)

    def cut(self) -> None:
        """Nothing that was not made durable will be there after this."""
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _GOING_DOWN, _WITHOUT_FLUSH)
        except OSError as error:
            raise NotRun(f"this kernel has no goingdown ioctl for it: {error}") from error
        finally:
            os.close(fd)

    def clean(self) -> bool:
        """What the file system's own checker says of it while it is off."""
        return _run(*self.check, str(self.image)).returncode == 0


@dataclass(slots=True, kw_only=True)
class Promised:
    """What the machine said before the power went."""

    submitted: dict[str, ArchiveRef] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    replicas: int = 0

    def hear(self, text: str, goods: Stock, until: float) -> None:
        """Take in its lines. What it said once the cut had begun is no promise: an fsync may return without an error then."""
        for line in text.split("\n")[:-1]:
            at, word, job = line.split()
            if float(at) >= until:
                continue
            if word == "submitted":
                self.submitted[job] = goods.with_vmx if job.startswith("auto-new") else goods.today
            elif word == "entered":
                self.entered.add(job)
            elif word == "done":
                self.done.add(job)


def work(folder: Path, goods: Stock, first: int, say: Callable[[str], None]) -> None:
    """The machine's life: recover, then one job after the other, new disks and refreshes in turn. Every third worker is killed."""
    dice = random.Random(first)
    host = Host(folder, goods)
    host.entered = lambda job: say(f"entered {job}")  # type: ignore[method-assign]  # told in the order in which it happens
    host.run_all(together=True)
    for number in range(first, first + 1000):
        new = number % 2 == 0
        job, ref = (
            (f"auto-new-{number}", goods.with_vmx)
            if new
            else (f"auto-again-{number}", (goods.yesterday, goods.today)[number // 2 % 2])
        )
        host.submit(job, ref, disk=f"{job}.vmdk" if new else REPLICA, more="" if new else "overwrite = true\n")
        say(f"submitted {job}")
        if number % 3 == 0:
            kill_one(host, job, dice.uniform(0.0, 0.04))
        host.run_all(together=True)
        if host.states().get(job) is State.DONE:
            say(f"done {job}")


def kill_one(host: Host, job: str, seconds: float) -> None:
    """A worker that dies on the way: what it wrote may be in memory only, and the next one finds it there."""
    host.settle()
    pid = host.begin(job, together=True)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    host.ended(job, os.waitpid(pid, 0)[1])


def live(folder: Path, goods: Stock, first: int, seconds: float, cut: Callable[[], None]) -> tuple[str, float]:
    """Let it work for so long, then cut the power; what it had said, and when the cut began."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(hear)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
            work(folder, goods, first, lambda line: _say(tell, line))
        finally:
            os._exit(1)
    os.close(tell)
    time.sleep(seconds)
    early = os.waitpid(pid, os.WNOHANG)[0] != 0
    began = time.monotonic()
    cut()
    if not early:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with open(hear) as file:
        said = file.read()
    if early:
        raise AssertionError(f"the machine stopped by itself: {said[-200:]}")
    return said, began


def _say(fd: int, line: str) -> None:
    os.write(fd, f"{time.monotonic()} {line}\n".encode())


def broken(folder: Path, goods: Stock, promised: Promised) -> str:
    """Which promise does not hold after the power came back; empty if all do."""
    host = Host(folder, goods)
    states = host.states()
    if lost := sorted(promised.submitted.keys() - states.keys()):
        return f"lost jobs: {lost[:3]}"
    ledger = read_ledger(host.ledger)
    if missing := sorted(promised.entered - {line.job for line in ledger.lines}):
        return f"ledger lines lost: {missing[:3]}"
    if undone := sorted(job for job in promised.done if states[job] is not State.DONE):
        return f"no longer done: {undone[:3]}"
    names = {path.name for path in host.datastore.glob("*.vmdk") if not path.name.endswith("-flat.vmdk")}
    for name in names | {line.destination.name for line in ledger.lines}:
        right = (goods.bytes_of[goods.with_vmx],) if name != REPLICA else tuple(goods.bytes_of.values())
        aside = name == REPLICA and not (host.datastore / name).exists()
        if host.disk(name) not in right and not aside:
            return f"{name}: {'in the ledger, but ' if name not in names else ''}not the disk that was backed up"
    return ""


def recovered(folder: Path, goods: Stock, promised: Promised) -> str:
    """What is not as it must be when the machine has worked off its queue."""
    host = Host(folder, goods)
    host.run_all()
    states = host.states()
    if unfinished := sorted(job for job in promised.submitted if states.get(job) is not State.DONE and not _gave_up(host, job)):
        job = unfinished[0]
        return f"never done: {job} is {states.get(job)}: {read_status(host.spool.status(job))}"
    done = {job for job in promised.submitted if states[job] is State.DONE}
    if missing := sorted(done - {line.job for line in read_ledger(host.ledger).lines}):
        return f"done and not in the ledger: {missing[:3]}"
    return broken(folder, goods, promised)


def begin(machine: Machine, goods: Stock, number: int) -> Path:
    """A new installation, whose settings are older than the first cut."""
    folder = machine.mount / str(number)
    folder.mkdir()
    Host(folder, goods)
    os.sync()
    return folder


def _gave_up(host: Host, job: str) -> bool:
    """Three times in a row the power went while it ran: it is left to a person."""
    status = read_status(host.spool.status(job))
    return status is not None and status.outcome is not None and "3 workers died over this job" in status.outcome.reason


def cuts(machine: Machine, goods: Stock, dice: random.Random, count: int) -> tuple[list[str], int]:
    """What went wrong in `count` cuts, and how many promises were kept through them."""
    wrong: list[str] = []
    kept = 0
    folder, promised = begin(machine, goods, 0), Promised()
    for number in range(count):
        said, began = live(folder, goods, number * 1000, dice.uniform(0.02, 0.25), machine.cut)
        machine.off()
        machine.on()
        promised.hear(said, goods, began)
        said_wrong = broken(folder, goods, promised)
        if number % PER_FOLDER == PER_FOLDER - 1 or number == count - 1:
            said_wrong = said_wrong or recovered(folder, goods, promised)
            kept += len(promised.submitted) + len(promised.entered)
            machine.off()
            said_wrong = said_wrong or ("" if machine.clean() else "the file system is not clean")
            machine.on()
            shutil.rmtree(folder)
            folder, promised = begin(machine, goods, number + 1), Promised()
        wrong += [f"cut {number}: {said_wrong}"] if said_wrong else []
    return wrong, kept


def power(asked: Round) -> Figure:
    dice = asked.dice()
    goods = stock(asked.folder / "stock", dice)
    count, wrong, note = asked.times(100), [], []
    alone()
    for kind in KINDS:
        machine = Machine(asked.folder, kind)
        try:
            found, kept = cuts(machine, goods, dice, count)
        finally:
            machine.off()
        wrong += [f"{kind}, {what}" for what in found]
        note.append(f"{kind} {count} cuts, {kept} promises")
    return Figure(held=2 * count - len(wrong), of=2 * count, note="; ".join([*note, *wrong[:1]]))


ROWS = (
    Row(
        id="R5",
        what="power cuts on a real ext4 and a real XFS while jobs are submitted, accepted, run and entered",
        target="no acknowledged job or ledger line lost, no bad disk under a final name, fsck clean",
        run=power,
        mutants=("power:files_are_not_synced", "power:folders_are_not_synced", "power:ledger_before_the_disk"),
        mutant_share=0.6,
        short=0.03,
    ),
)
