"""The programs of a drill, each started through `launch`: they are stopped when their context ends, and die with this process.

What they print goes into a file of the drill's work folder, of which only the end is ever read.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.host.child import has_ended, send, start_child
from restore_core.errors import TryAgainLater
from restore_core.naming import printable
from restore_core.targets.base import Stop

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
_GRACE = 5.0
_TAIL = 4000
_MOST_LOG = 64 << 20
"""Bytes: a file system can be made so that its checker never ends to complain."""
_STEP = 0.5
STARTED_NOT = 126
"""The exit code of a program that could not be begun."""


def find_program(name: str) -> str | None:
    """Returns the path of a program; those for administrators are found, too."""
    return shutil.which(name, path=_PATH)


@dataclass(slots=True, kw_only=True)
class Program:
    """A program that was started. `log` is what it printed."""

    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    log: Path

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def ended(self) -> bool:
        """Returns whether it is over."""
        return has_ended(self.pidfd)

    def wait(self, stop: Stop, *, seconds: float) -> int | None:
        """Returns its exit code, negative for a signal; None if it still runs after that time, or prints without end.

        Raises what `stop` raises.
        """
        deadline = time.monotonic() + seconds
        while not select.select([self.pidfd], [], [], max(0.0, min(_STEP, deadline - time.monotonic())))[0]:
            stop()
            if time.monotonic() >= deadline or self._prints_too_much():
                return None
        return self.process.wait()

    def _prints_too_much(self) -> bool:
        try:
            return self.log.stat().st_size > _MOST_LOG
        except OSError:
            return False

    def finish(self, *, gently: bool = True) -> int:
        """Stops it, and returns its exit code: by SIGTERM first, if it may take its time. Harmless when repeated."""
        if gently and send(self.pidfd, signal.SIGTERM) and not select.select([self.pidfd], [], [], _GRACE)[0]:
            gently = False
        if not gently:
            send(self.pidfd, signal.SIGKILL)
        return self.process.wait()

    def said(self, most: int = _TAIL) -> str:
        """Returns the end of what it printed, printable, without empty lines."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
                text = file.read(most).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(printable(line.strip()) for line in text.replace("\r", "\n").splitlines() if line.strip())


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    log: Path,
    limits: ProgramLimits,
    pass_fds: Sequence[int] = (),
    stdout: int | None = None,
    gently: bool = False,
) -> Iterator[Program]:
    """Starts a program (its path first) and stops it at the end. Without `stdout`, that goes into the log, too."""
    launcher = [sys.executable, "-P", "-m", "phd_daemon.drill.launch", str(os.getpid()), limits.to_argument()]
    with log.open("ab") as out:
        try:
            process, pidfd = start_child([*launcher, *command], stdout=stdout or out, stderr=out, pass_fds=pass_fds)
        except OSError as error:
            raise TryAgainLater(f"{command[0]} cannot be started: {error.strerror}") from error
    program = Program(name=os.path.basename(command[0]), process=process, pidfd=pidfd, log=log)
    try:
        yield program
    finally:
        program.finish(gently=gently)
        os.close(pidfd)
        if process.stdout is not None:
            process.stdout.close()


def ran(command: Sequence[str], *, log: Path, limits: ProgramLimits, stop: Stop, seconds: float) -> tuple[int | None, str]:
    """Runs a program to its end; returns its exit code (None: it was still running after that time) and the end of its output."""
    with started(command, log=log, limits=limits) as program:
        code = program.wait(stop, seconds=seconds)
    return code, program.said()
