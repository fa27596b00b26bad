"""strace, attached to a worker that waits: which calls change something, and a signal or an error at one of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.proof.scoreboard import NotRun

CHANGES = (
    "openat,write,pwrite64,writev,pwritev,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,"
    "fsync,fdatasync,fchmod,fchown,utimensat,exit_group"
)
_LINE = re.compile(r"(?P<tid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
Point = tuple[str, int]
"""The n-th call of a name, counted for each thread."""


def strace() -> str:
    """Its path; `NotRun` if this machine has none or does not let us."""
    found = shutil.which("strace")
    if found is None:
        raise NotRun("strace is not installed")
    if os.geteuid() != 0:
        raise NotRun("only root may trace a process that forbids debuggers")
    return found


def attached(pid: int, out: Path, *more: str, calls: str = CHANGES) -> subprocess.Popen[bytes]:
    """Attach to a stopped process and let it go on."""
    tracer = subprocess.Popen(
        [strace(), "-f", "-qq", "-o", str(out), "-e", f"trace={calls}", *more, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 30
    while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            said = tracer.stderr.read().decode() if tracer.poll() is not None and tracer.stderr else "no answer"
            raise NotRun(f"strace cannot attach: {said.strip()}")
        time.sleep(0.001)
    os.kill(pid, signal.SIGCONT)
    return tracer


def finish(pid: int, tracer: subprocess.Popen[bytes], *, patience: float = 600.0) -> int:
    """Wait for the traced process, which is killed when it takes longer; its wait status."""
    end = time.monotonic() + patience
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    status = ended[1]
    tracer.wait(30)
    if tracer.stderr is not None:
        tracer.stderr.close()
    return status


def changes(trace: Path) -> list[tuple[Point, str]]:
    """Each call of a trace that changes something, with its place and its arguments; of `openat` those that may create."""
    return [(point, rest) for point, rest in every(trace) if point[0] != "openat" or "O_CREAT" in rest]


def every(trace: Path) -> list[tuple[Point, str]]:
    """Each call of a trace, with its place and its arguments."""
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[Point, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        tid, name, rest = match["tid"], match["name"], match["rest"]
        counts[tid, name] += 1
        found.setdefault((name, counts[tid, name]), rest)
    return list(found.items())
