"""The parent's side of a job: start a worker, hear of its end, tell it to stop.

The truth about a worker's life is the lock it holds, asked in every round. A pidfd only says sooner that it may be
over: for our own children, and for those of an earlier daemon ("adopted") as far as they can be found again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phd_daemon.spool.job_log import open_log
from phd_daemon.worker.order import WorkOrder
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_CLOCK_SLACK = 3.0


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process at one job. `pidfd` becomes readable when it ends; `child` is None for an adopted one."""

    job: str
    attempt: int
    pid: int
    pidfd: int
    child: subprocess.Popen[bytes] | None
    stop_asked: bool = field(default=False)
    hung: str = field(default="")
    """Why it was stopped, when it hung."""

    def close(self) -> None:
        """Close the pidfd, once nothing waits for it any more."""
        os.close(self.pidfd)


class Workers:
    """The workers this daemon knows of, by job. `command` is how one is started."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._known: dict[str, Worker] = {}

    def __len__(self) -> int:
        return len(self._known)

    def start(self, order: WorkOrder, *, log: Path) -> Worker:
        """Start a worker that inherits `order.lock_fd`. Raises `OSError` (EAGAIN, ENOMEM, EMFILE).

        What it says on standard error (a traceback, at worst) goes to the job's log.
        """
        stdin = _readable(order.to_json())
        try:
            stderr = _open_log(log)
            try:
                # Its own session: ^C in the terminal of a foreground daemon is for the daemon to act on.
                child = subprocess.Popen(  # noqa: S603  our own command line, no part of it from outside
                    self._command,
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=(order.lock_fd,),
                    start_new_session=True,
                )
            finally:
                if stderr != subprocess.DEVNULL:
                    os.close(stderr)
        finally:
            os.close(stdin)
        try:
            pidfd = os.pidfd_open(child.pid)  # not reaped yet, so the pid is still this child's
        except OSError:
            child.kill()
            child.wait()
            raise
        worker = Worker(job=order.job, attempt=order.attempt, pid=child.pid, pidfd=pidfd, child=child)
        self._known[order.job] = worker
        return worker

    def adopt(self, job: str, *, attempt: int, pid: int | None, started_at: float | None) -> Worker | None:
        """Watch a worker of an earlier daemon, if the process of `pid` is it; None if it is known already or not found."""
        if job in self._known or pid is None or started_at is None or not _started_about(pid, started_at):
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        self._known[job] = Worker(job=job, attempt=attempt, pid=pid, pidfd=pidfd, child=None)
        return self._known[job]

    def all(self) -> tuple[Worker, ...]:
        """Everything we know to be running."""
        return tuple(self._known.values())

    def of(self, job: str) -> Worker | None:
        """The worker of a job."""
        return self._known.get(job)

    def unreaped(self, job: str) -> bool:
        """Whether a child of ours had the job and its end was not yet heard of: its lock is free a moment before."""
        worker = self._known.get(job)
        return worker is not None and worker.child is not None

    def stop(self, job: str) -> None:
        """SIGTERM, once: the worker looks at the spool for what is meant by it."""
        worker = self._known.get(job)
        if worker is not None and not worker.stop_asked:
            worker.stop_asked = True
            _send(worker, signal.SIGTERM)

    def kill(self, job: str) -> None:
        """SIGKILL, for one that did not listen."""
        worker = self._known.get(job)
        if worker is not None:
            _send(worker, signal.SIGKILL)

    def reap(self) -> list[tuple[Worker, str]]:
        """Those that have ended, with each, in words, how. Their pidfds stay open until `worker.close`."""
        ended = []
        for worker in self.all():
            if select.select([worker.pidfd], [], [], 0)[0]:
                how = _how(worker.child.wait()) if worker.child else "ended without an outcome"
                del self._known[worker.job]
                ended.append((worker, how))
        return ended


def _send(worker: Worker, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(worker.pidfd, number)
        _log.info("signalled", extra={"job": printable(worker.job), "signal": number.name, "pid": worker.pid})


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no outcome"
    hint = " (perhaps out of memory)" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code}{hint}"


def _readable(data: bytes) -> int:
    """An open file with these bytes: unlike a pipe it never makes the writer wait."""
    fd = os.memfd_create("work-order", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _open_log(path: Path) -> int:
    try:
        return open_log(path)
    except OSError:
        return subprocess.DEVNULL


def _started_about(pid: int, started_at: float) -> bool:
    """The process began when the status says its worker did: the number was not given to another one since."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    # The worker writes the time once it has been loaded; on a busy machine that takes a while.
    return -_CLOCK_SLACK <= started_at - began <= 10 * _CLOCK_SLACK
