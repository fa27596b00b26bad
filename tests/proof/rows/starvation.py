"""R21: no files, no processes, no memory to be had: the daemon lives, each job waits or ends with a reason, later ones are done."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from phd_daemon.spool.layout import State
from tests.lab import BLOCK, Lab
from tests.proof.daemon import Daemon, Silent, serving
from tests.proof.scoreboard import Figure, NotRun, Round, Row

QUICK = {"TEST_SETTINGS": "PUT_BACK_SECONDS=1 RESCAN_SECONDS=2"}
CGROUPS = Path("/sys/fs/cgroup")


def pid_of(daemon: Daemon) -> int:
    if daemon.process is None:
        raise AssertionError("it serves")
    return daemon.process.pid


def open_files(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{pid_of(daemon)}/fd").iterdir()))


@contextlib.contextmanager
def limited(daemon: Daemon, what: int, most: int) -> Iterator[None]:
    """The daemon may have so many of something, and so may what it starts."""
    before = resource.prlimit(pid_of(daemon), what)
    resource.prlimit(pid_of(daemon), what, (most, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid_of(daemon), what, before)


@contextlib.contextmanager
def grouped(daemon: Daemon, controller: str, file: str, most: int) -> Iterator[None]:
    """The daemon and its children in a control group (version 1) with a limit; back again at the end."""
    group = CGROUPS / controller / f"phd-proof-{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(most))
        (group / "cgroup.procs").write_text(str(pid_of(daemon)))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise NotRun(f"no control group of version 1 for {controller} here: {error}") from error
    try:
        yield
    finally:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                for line in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(OSError):
                        (CGROUPS / controller / "cgroup.procs").write_text(line)
                group.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def recovers(daemon: Daemon, starved: contextlib.AbstractContextManager[None]) -> str:
    """A job comes while there is nothing to be had; it is done once there is. What is wrong; "" for nothing."""
    with starved:
        daemon.drop("crm", "/fake/sleep=0")
        daemon.drop("next", "/fake/sleep=0")
        time.sleep(2.5)
        if not daemon.alive:
            return "the daemon ended"
        lost = [name for name in ("crm", "next") if daemon.state_of(name) is None]
        if lost:
            return f"{lost} is gone"
    for name in ("crm", "next"):
        state = daemon.ends(name)
        if state is not State.DONE and not (state is State.FAILED and "worker" in daemon.why(name)):
            return f"{name} is {state.value}: {daemon.why(name)}"
    daemon.drop("after", "/fake/sleep=0")
    return "" if daemon.ends("after") is State.DONE else f"the job after it: {daemon.why('after')}"


def no_files(spare: int) -> Callable[[Path], str]:
    def case(folder: Path) -> str:
        daemon = Daemon(folder, "", queue="workers = 2")
        with serving(daemon, fake=True, environment=QUICK):
            return recovers(daemon, limited(daemon, resource.RLIMIT_NOFILE, open_files(daemon) + spare))

    return case


def few_files(folder: Path) -> str:
    """32 files are enough for everything."""
    daemon = Daemon(folder, "", queue="workers = 2")
    with serving(daemon, fake=True, environment=QUICK), limited(daemon, resource.RLIMIT_NOFILE, 32):
        for number in range(8):
            daemon.drop(f"j{number}", "/fake/sleep=0")
        ends = {daemon.ends(f"j{number}") for number in range(8)}
        return "" if ends == {State.DONE} else f"{ends}"


def no_processes(folder: Path) -> str:
    daemon = Daemon(folder, "", queue="workers = 2")
    with serving(daemon, fake=True, environment=QUICK):
        threads = len(list(Path(f"/proc/{pid_of(daemon)}/task").iterdir()))
        why = recovers(daemon, grouped(daemon, "pids", "pids.max", threads))
        said = daemon.said()
        return why or ("" if "no worker could be started" in said else "nobody was refused a process")


def no_address_space(folder: Path) -> str:
    """Nothing can be allocated any more, here or in a worker."""
    daemon = Daemon(folder, "", queue="workers = 2")
    with serving(daemon, fake=True, environment=QUICK):
        size = int(Path(f"/proc/{pid_of(daemon)}/statm").read_text().split()[0]) * resource.getpagesize()
        return recovers(daemon, limited(daemon, resource.RLIMIT_AS, size + (1 << 20)))


def restored_in(most: int, *, must: bool) -> Callable[[Path], str]:
    """A real restore of 48 MiB, daemon and worker in `most` bytes. Below what a worker needs it must end with a reason."""

    def case(folder: Path) -> str:
        lab = Lab(folder / "lab")
        made = lab.backup(os.urandom(BLOCK) * 192)
        daemon = Daemon(folder, f'[targets.t]\nurl = "file://{lab.store}"\n')
        with serving(daemon):
            with grouped(daemon, "memory", "memory.limit_in_bytes", most):
                daemon.drop("crm", made.delta)
                state = daemon.ends("crm", seconds=120)
                alive = daemon.alive
            exact = daemon.disk("crm") == lab.disk.read_bytes()
            if not alive:
                return "the daemon ended"
            if state is State.DONE:
                return "" if exact else "done, and another disk"
            reason = daemon.why("crm")
            right = not must and state is State.FAILED and daemon.disk("crm") is None and "memory" in reason
            return "" if right else f"{state.value}: {reason}"

    return case


CASES: dict[str, Callable[[Path], str]] = {
    "no file more": no_files(0),
    "one file more": no_files(1),
    "three files more": no_files(3),
    "six files more": no_files(6),
    "32 files": few_files,
    "no process more": no_processes,
    "no address space": no_address_space,
    "64 MiB of memory": restored_in(64 << 20, must=True),
    "too little memory for a worker": restored_in(30 << 20, must=False),
}


def starved(asked: Round) -> Figure:
    names = list(CASES)
    chosen = names if asked.share >= 1 else asked.dice().sample(names, asked.times(len(names)))
    wrong, absent = [], []
    for number, name in enumerate(chosen):
        try:
            why = CASES[name](asked.folder / str(number))
        except Silent as silent:
            why = str(silent)[:300]
        except NotRun as lacks:
            absent.append(f"not run: {name} ({lacks})")
            continue
        wrong += [f"{name}: {why}"] if why else []
    of = len(chosen) - len(absent)
    if not of:
        raise NotRun("; ".join(absent))
    return Figure(held=of - len(wrong), of=of, note="; ".join([*absent, *wrong[:3]]))


ROWS = (
    Row(
        id="R21",
        what="starvation: files, processes, address space, memory",
        target="daemon alive, each job waits or ends with a reason, and is done when there is enough",
        run=starved,
        mutants=("starvation:no_process_is_a_surprise",),
        mutant_share=1.0,
        short=None,
    ),
)
