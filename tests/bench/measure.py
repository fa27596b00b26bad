"""How a contender is measured: one new process, wall seconds until its output is durable. Peak memory is measured apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
_QUIET = 0.5
_LONGEST_SETTLE = 20.0


class ContenderFailed(Exception):
    """A command that had to work did not; the text ends with what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One command. `outputs` are synced within the time and removed before it; `reads` are read once before, to be in the cache."""

    name: str
    command: Sequence[str]
    outputs: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    stdout: Path | None = None
    stdin: Path | None = None
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    clear: Callable[[], None] | None = None


def best_of(contenders: Sequence[Contender], rounds: int, after: Callable[[Contender], None] | None = None) -> dict[str, float]:
    """Seconds of the fastest round of each, by name; `after` sees the outputs of the last round, one contender at a time."""
    costs: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds):
        for contender in contenders:
            costs[contender.name].append(run(contender))
            print(f"  round {turn + 1}/{rounds}  {contender.name:<34} {costs[contender.name][-1]:8.2f} s", flush=True)
            if after is not None and turn == rounds - 1:
                after(contender)
            remove_outputs(contender)
    return {name: min(seconds) for name, seconds in costs.items()}


def run(contender: Contender) -> float:
    """Once; its seconds. Leaves the outputs where they are."""
    remove_outputs(contender)
    for path in contender.reads:
        warm(path)
    settle()  # nobody pays for the dirty pages or the freed blocks of the one before
    start = time.perf_counter()
    _run_process(contender)
    for path in contender.outputs:
        _sync(path)
    return time.perf_counter() - start


def settle() -> None:
    """Return when all that was written is on the disks, and the disks have had nothing to do for half a second.

    A file system that discards freed blocks does so after the sync, and 4 GiB of that disturb whatever comes next.
    """
    os.sync()
    last, still_since, end = "", time.monotonic(), time.monotonic() + _LONGEST_SETTLE
    while time.monotonic() < min(end, still_since + _QUIET):
        found = Path("/proc/diskstats").read_text()
        if found != last:
            last, still_since = found, time.monotonic()
        time.sleep(0.05)


def _run_process(contender: Contender) -> None:
    with (
        (contender.stdin or Path(os.devnull)).open("rb") as stdin,
        (contender.stdout or Path(os.devnull)).open("wb") as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        env = {**os.environ, **contender.env}
        ran = subprocess.run(
            [*contender.command], stdin=stdin, stdout=stdout, stderr=stderr, cwd=contender.cwd, env=env, check=False
        )
        if ran.returncode != 0:
            stderr.seek(0)
            tail = stderr.read().decode(errors="replace")[-800:]
            raise ContenderFailed(f"{contender.name}: {' '.join(contender.command)}: exit {ran.returncode}\n{tail}")


_WATCHER = """
import os, signal, sys, threading
pid = os.fork()
if pid == 0:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    os.dup2(quiet, 1)
    os.execv(sys.argv[2], sys.argv[2:])
if float(sys.argv[1]):
    threading.Timer(float(sys.argv[1]), os.kill, (pid, signal.SIGINT)).start()
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, flush=True)
os._exit(0)
"""


def peak(command: Sequence[str], *, expected: tuple[int, ...] = (0,), seconds: float = 0) -> int:
    """Peak resident bytes of one process; after `seconds` it is sent what ^C sends.

    The kernel never counts less than what the process that forked it had (here 70 MB), so a small one in between forks.
    """
    said = prepare([sys.executable, "-I", "-S", "-c", _WATCHER, str(seconds), *command]).split()
    code, kib = int(said[0]), int(said[1])
    if code not in expected:
        raise ContenderFailed(f"{' '.join(command)}: exit {code}, expected {' or '.join(str(int(each)) for each in expected)}")
    return kib * 1024


def prepare(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a step that is not measured; its standard output."""
    ran = subprocess.run([*command], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise ContenderFailed(f"{' '.join(command)}: exit {ran.returncode}\n{ran.stdout[-400:]}{ran.stderr[-800:]}")
    return ran.stdout


def remove_outputs(contender: Contender) -> None:
    for path in contender.outputs:
        path.unlink(missing_ok=True)
    if contender.clear is not None:
        contender.clear()


def warm(path: Path) -> None:
    """Read a file, or all files of a folder, into the page cache."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        with file.open("rb", buffering=0) as source:
            while source.read(4 * MIB):
                pass


def empty_folder(path: Path) -> None:
    """An empty folder where there may have been a full one."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
