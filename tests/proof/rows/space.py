"""R7, R8, R9: no room on the datastore, a datastore that promises room it has not, no room for spool, ledger or catalog."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.spool.layout import State
from phd_daemon.spool.status_file import read_status
from restore_core.disk.datastore import MARKER
from restore_core.replication.ledger import read_ledger
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, TargetSpec
from tests import servers
from tests.lab import BLOCK, Lab
from tests.proof import volumes
from tests.proof.daemon import PHD, Daemon, Silent, serving
from tests.proof.host import Host, Stock
from tests.proof.scoreboard import Figure, Round, Row
from tests.proof.tracing import attached, finish

BLOCKS = 12
SIZE = BLOCKS * BLOCK


def full_stock(folder: Path, dice: random.Random) -> Stock:
    """A disk of 3 MiB without a zero in it, so that thin and thick need the same room."""
    lab = Lab(folder)
    old = dice.randbytes(SIZE)
    yesterday = lab.backup(old).delta
    today = lab.backup(dice.randbytes(8 * BLOCK) + old[8 * BLOCK :]).delta
    return Stock(
        folder=lab.store, yesterday=yesterday, today=today, with_vmx=today, bytes_of={yesterday: old, today: lab.disk.read_bytes()}
    )


def reason(host: Host, job: str) -> str:
    status = read_status(host.spool.status(job))
    return status.outcome.reason if status and status.outcome else ""


def tidy(host: Host, *, before: int, kept: bytes | None = None) -> str:
    """What a failed restore left behind; "" for nothing."""
    flat = host.datastore / "CRM-flat.vmdk"
    there = sorted(path.name for path in host.datastore.iterdir() if path.name not in ("lost+found", ".ballast", MARKER))
    if kept is None and there:
        return f"left {there}"
    if kept is not None and (there != ["CRM-flat.vmdk", "CRM.vmdk"] or flat.read_bytes() != kept):
        return f"the disk that was there is not as it was: {there}"
    if volumes.free(host.datastore) < before:
        return f"{before - volumes.free(host.datastore)} bytes were not given back"
    return ""


def no_room(host: Host, *, room: int, thin: bool, refresh: bool) -> str:
    """One datastore with `room` bytes too few; then enough. What is wrong; "" for nothing."""
    more = 'provision = "thin"\n' if thin else ""
    kept = None
    if refresh:
        host.submit("first", host.goods.yesterday, more=more)
        host.run_all()
        kept, more = host.goods.bytes_of[host.goods.yesterday], more + "overwrite = true\n"
        if host.disk() != kept:
            return f"the first restore: {reason(host, 'first')}"
    host.learn()
    ballast = volumes.fill(host.datastore, leave=room)
    before = volumes.free(host.datastore)
    host.submit("crm", host.goods.today, more=more)
    host.run_all()
    if host.states()["crm"] is not State.FAILED:
        return f"{host.states()['crm'].value} with {room} bytes free"
    why = reason(host, "crm")
    if not re.search(r"[\d.]+ \w+ needed, [\d.]+ \w+ free|No space left|Disk quota exceeded", why) or "Free space" not in why:
        return f"the reason is {why!r}"
    if wrong := tidy(host, before=before, kept=kept):
        return wrong
    ballast.unlink()
    host.submit("next", host.goods.today, more=more)
    host.run_all()
    right = host.states()["next"] is State.DONE and host.disk() == host.goods.bytes_of[host.goods.today]
    return "" if right else f"the next job: {reason(host, 'next')}"


def datastore_full(asked: Round) -> Figure:
    dice = asked.dice()
    goods = full_stock(asked.folder / "stock", dice)
    wrong, count = [], asked.times(20)
    for number in range(count):
        kind, thin, refresh = (volumes.tmpfs, volumes.ext4)[number % 2], number % 4 >= 2, number % 5 == 4
        room = dice.randrange(SIZE // 20, (4 if refresh else 10) * SIZE // 12)
        place = asked.folder / str(number)
        with kind(place / "volumes" / "ds", 4 * SIZE):
            host = Host(place, goods)
            why = no_room(host, room=room, thin=thin, refresh=refresh)
        how = f"{kind.__name__}{' thin' if thin else ''}{' refresh' if refresh else ''}, {room} free"
        wrong += [f"{how}: {why}"] if why else []
    return Figure(held=count - len(wrong), of=count, note="; ".join(wrong[:3]))


@contextlib.contextmanager
def thin_volume(place: Path, real: int) -> Iterator[Callable[[], None]]:
    """An ext4 of 64 MiB on `real` bytes of memory: writes succeed, and fsync finds out. Yields what reads it anew."""
    with volumes.tmpfs(place.with_name("memory"), real) as memory:
        volumes.make_ext4(memory / "image", 64 << 20, "-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=1")
        with volumes.mounted(place, "-o", "loop", str(memory / "image")):

            def anew() -> None:
                """Past the cache: only what the device really holds."""
                Path("/proc/sys/vm/drop_caches").write_text("3")

            yield anew


def thin_case(asked: Round, goods: Stock, number: int, dice: random.Random) -> tuple[str, bool]:
    """What is wrong, and whether the job was called done."""
    place = asked.folder / f"thin{number}"
    real = dice.randrange(SIZE // 2, 2 * SIZE)
    with thin_volume(place / "volumes" / "ds", real) as anew:
        host = Host(place, goods)
        more = ('provision = "thin"\n' if number % 2 else "") + ("readback = true\n" if number % 3 == 0 else "")
        host.submit("crm", goods.today, more=more)
        ready = host.settle()
        for record in ready:
            host.run(record.stem)
        host.settle()
        done = host.states()["crm"] is State.DONE
        shown = host.disk()
        if done:
            anew()
            with contextlib.suppress(OSError):
                shown = host.disk()
        right = goods.bytes_of[goods.today]
        if done and shown != right:
            return f"done with {real} bytes of room, and the disk is not there", done
        if not done and (host.datastore / "CRM.vmdk").exists():
            return f"not done, and a disk under its final name: {reason(host, 'crm')}", done
    return "", done


LIES = (
    "pwrite64:retval={n}:when={at}",
    "fsync:error=EIO:when={at}",
    "fsync:error=ENOSPC:when={at}",
    "pwrite64:error=EIO:when={at}",
)


def lying_case(asked: Round, goods: Stock, number: int, dice: random.Random) -> tuple[str, bool]:
    """One call of the worker lies or fails; with readback nothing of it may pass."""
    place = asked.folder / f"lie{number}"
    host = Host(place, goods)
    lie = LIES[number % len(LIES)].format(n=BLOCK, at=dice.randrange(1, 4))
    host.submit("crm", goods.today, more="readback = true\n")
    host.settle()
    pid = host.begin("crm", held=True)
    os.waitpid(pid, os.WUNTRACED)
    tracer = attached(pid, place / "trace", "-e", f"inject={lie}", calls="pwrite64,fsync")
    host.ended("crm", finish(pid, tracer))
    host.settle()
    done = host.states()["crm"] is State.DONE
    shown = host.disk()
    if done and shown != goods.bytes_of[goods.today]:
        return f"{lie}: done, and the disk is wrong", done
    if shown is not None and shown != goods.bytes_of[goods.today]:
        return f"{lie}: a wrong disk under its final name", done
    return "", done


def false_success(asked: Round) -> Figure:
    dice = asked.dice()
    goods = full_stock(asked.folder / "stock", dice)
    wrong, dones = [], 0
    for number in range(half := asked.times(20)):
        for case in (thin_case, lying_case):
            why, done = case(asked, goods, number, dice)
            wrong += [why] if why else []
            dones += done
    of = 2 * half
    return Figure(held=of - len(wrong), of=of, note="; ".join([f"{of - dones} refused, {dones} right", *wrong[:3]]))


@dataclass(slots=True, kw_only=True)
class Tight:
    """A daemon whose spool, ledger and state lie on small file systems of their own, and a disk on a slow server."""

    daemon: Daemon
    delta: ArchiveRef
    slow: ArchiveRef
    data: bytes

    def exact(self, name: str) -> bool:
        return self.daemon.disk(name) == self.data


@contextlib.contextmanager
def tight(folder: Path, dice: random.Random) -> Iterator[Tight]:
    """Everything of it, served."""
    with contextlib.ExitStack() as stack:
        (folder / "ftp").mkdir(parents=True)
        served = stack.enter_context(servers.pyftpd(folder / "ftp"))
        lab = Lab(folder / "lab")
        lab.store, lab.targets = served.store, TargetSet((TargetSpec(name="t", url=f"file://{served.store}"),))
        made = lab.backup(dice.randbytes(SIZE))
        for name in ("spool", "ledger", "state"):
            stack.enter_context(volumes.tmpfs(folder / name, 2 << 20))
        targets = (
            f'[targets.t]\nurl = "file://{lab.store}"\n[targets.slow]\nurl = "{served.spec.url}"\n'
            f'password_file = "{served.spec.password_file}"\nbandwidth = "2MB/s"\n'
        )
        daemon = Daemon(folder, targets, queue="workers = 2")
        slow = ArchiveRef(target="slow", path=made.delta.path)
        stack.enter_context(serving(daemon))
        yield Tight(daemon=daemon, delta=made.delta, slow=slow, data=lab.disk.read_bytes())


def ended_once(daemon: Daemon, name: str) -> bool:
    """An attempt is over, and the spool says so."""
    status, state = daemon.status(name), daemon.state_of(name)
    return state in (State.DONE, State.FAILED) or (state is State.WAITING and status is not None and status.tries > 0)


def ledger_full(t: Tight) -> str:
    """A restore of a rule that is done and cannot be entered; people's own jobs go on."""
    daemon = t.daemon
    ballast = volumes.fill(daemon.ledger.parent)
    daemon.drop("auto-a", t.delta)
    daemon.until(lambda: daemon.why("auto-a") != "", "restored")
    daemon.drop("own", t.delta)
    if daemon.ends("own") is not State.DONE or not t.exact("own"):
        return f"a person's own job: {daemon.why('own')}"
    early = daemon.state_of("auto-a")
    ballast.unlink()
    state = daemon.ends("auto-a")
    lines = [line.job for line in read_ledger(daemon.ledger).lines]
    right = (early, state, lines) == (State.RUNNING, State.DONE, ["auto-a"]) and t.exact("auto-a")
    return "" if right else f"{early} then {state}, ledger {lines}"


def spool_full(t: Tight) -> str:
    """The spool fills while a worker works; there is room again once it has nothing left to do but to say how it ended."""
    daemon = t.daemon
    daemon.drop("auto-b", t.slow)
    daemon.until(lambda: (s := daemon.status("auto-b")) is not None and s.plan is not None, "planned")
    ballast = volumes.fill(daemon.spool)
    part = daemon.datastore / "auto-b.img.phd-new"
    end = time.monotonic() + 15
    while time.monotonic() < end and daemon.state_of("auto-b") is State.RUNNING and part.exists() and part.read_bytes() != t.data:
        time.sleep(0.1)
    time.sleep(1.0)
    if not daemon.alive or daemon.state_of("auto-b") is not State.RUNNING:
        return f"no room in the spool: daemon {daemon.alive}, {daemon.state_of('auto-b')}"
    ballast.unlink()
    daemon.until(lambda: ended_once(daemon, "auto-b"), "told how it ended")
    if daemon.state_of("auto-b") is State.WAITING:
        status = daemon.status("auto-b")
        if status is None or "record of the finished disk" not in status.why_waiting:
            return f"waits again: {status}"
        again(daemon, "auto-b")
    state = daemon.ends("auto-b")
    lines = [line.job for line in read_ledger(daemon.ledger).lines]
    right = state is State.DONE and t.exact("auto-b") and lines.count("auto-b") == 1
    return "" if right else f"{state}: {daemon.why('auto-b')}; ledger {lines}"


def again(daemon: Daemon, name: str) -> None:
    """A person does not wait for the back-off: cancelled, and tried again."""
    (daemon.spool / f"{name}.job").rename(daemon.spool / f"{name}.cancelled")
    daemon.until(lambda: (s := daemon.status(name)) is not None and s.state == "cancelled", "cancelled")
    (daemon.spool / f"{name}.cancelled").rename(daemon.spool / f"{name}.job")


def no_room_to_submit(t: Tight) -> str:
    """`phd submit` into a full spool says so and leaves nothing; jobs that wait there are not forgotten."""
    daemon = t.daemon
    daemon.drop("auto-c", t.delta, state="held")
    ballast = volumes.fill(daemon.spool)
    to = f"{daemon.datastore}/never.img"
    ran = subprocess.run(
        [PHD, "submit", str(t.delta), "--to", to, "--name", "never", "--config", daemon.settings],
        capture_output=True,
        text=True,
        check=False,
    )
    there = sorted(name for name in os.listdir(daemon.spool) if "never" in name)
    (daemon.spool / "auto-c.held").rename(daemon.spool / "auto-c.job")
    time.sleep(1.0)
    alive = daemon.alive
    ballast.unlink()
    state = daemon.ends("auto-c")
    right = ran.returncode in (73, 75) and "Traceback" not in ran.stderr and not there and alive and state is State.DONE
    return "" if right else f"submit: {ran.returncode} {ran.stderr[-200:]!r}; {there}; daemon {alive}; {state}"


def state_full(t: Tight) -> str:
    """No room for the catalog and the record of passes: jobs are none the worse."""
    daemon = t.daemon
    ballast = volumes.fill(daemon.state)
    (daemon.folder / "vmdks.auto").write_text(f"RESTORE:CRM|*|*|disk.img|{daemon.datastore}/CRM\n")
    if daemon.process is not None:
        daemon.process.send_signal(signal.SIGHUP)
    daemon.drop("auto-d", t.delta)
    state = daemon.ends("auto-d")
    time.sleep(1.0)
    alive = daemon.alive
    ballast.unlink()
    return "" if alive and state is State.DONE and t.exact("auto-d") else f"daemon {alive}, {state}: {daemon.why('auto-d')}"


def killed_while_full(t: Tight) -> str:
    """The daemon dies with the spool full, and one that is started then gets on as soon as there is room."""
    daemon = t.daemon
    daemon.drop("auto-e", t.slow)
    daemon.until(lambda: (s := daemon.status("auto-e")) is not None and s.plan is not None, "planned")
    ballast = volumes.fill(daemon.spool)
    daemon.end(signal.SIGKILL)
    daemon.up()
    time.sleep(1.0)
    alive = daemon.alive
    ballast.unlink()
    daemon.until(lambda: ended_once(daemon, "auto-e"), "told how it ended")
    if daemon.state_of("auto-e") is State.WAITING:
        again(daemon, "auto-e")
    state = daemon.ends("auto-e")
    lines = [line.job for line in read_ledger(daemon.ledger).lines]
    right = alive and state is State.DONE and t.exact("auto-e") and lines.count("auto-e") == 1
    return "" if right else f"daemon {alive}, {state}: {daemon.why('auto-e')}; {lines}"


BAD_DAYS = (ledger_full, spool_full, no_room_to_submit, state_full, killed_while_full)


def nothing_forgotten(asked: Round) -> Figure:
    wrong, count = [], asked.times(len(BAD_DAYS))
    for number in range(count):
        day = BAD_DAYS[number % len(BAD_DAYS)]
        with tight(asked.folder / str(number), asked.dice()) as t:
            try:
                why = day(t)
            except Silent as silent:
                why = str(silent)
            if "Traceback" in t.daemon.said():
                why = why or "a traceback in the daemon's log"
        wrong += [f"{day.__name__}: {why}"] if why else []
    return Figure(held=count - len(wrong), of=count, note="; ".join(wrong[:3]))


ROWS = (
    Row(
        id="R7",
        what="no room on the datastore: tmpfs and ext4, thick and thin, new and refresh",
        target="20/20 fail with needed and free bytes, the room is given back, the next job is done",
        run=datastore_full,
        mutants=("space:a_failed_restore_leaves_its_part",),
        mutant_share=0.3,
        short=0.25,
    ),
    Row(
        id="R8",
        what="late EIO and ENOSPC of a thin datastore, lying writes, failing fsync",
        target="0 false successes",
        run=false_success,
        mutants=("space:an_error_of_fsync_is_retried", "space:readback_believes"),
        mutant_share=0.5,
        short=0.1,
    ),
    Row(
        id="R9",
        what="no room for spool, ledger, catalog and logs",
        target="daemon up, 0 durable restores forgotten",
        run=nothing_forgotten,
        mutants=("space:no_room_for_the_outcome_is_the_end", "space:the_ledger_is_not_waited_for"),
        mutant_share=0.4,
        short=None,
    ),
)
