"""The parent's side of a job: starts a worker, learns of its end, tells it to stop, and finds one that hangs.

A worker lives as long as it holds its lock, which every round checks. A pidfd only shows sooner that it may be over: for our own
children, and for those of an earlier daemon ("adopted") that can be found again.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phd_daemon.host.child import has_ended, send, start_child
from phd_daemon.spool.job_log import open_log
from phd_daemon.spool.layout import Spool
from phd_daemon.worker.order import WorkOrder
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_CLOCK_SLACK = 3.0
GRACE_SECONDS = 60.0
_LONGEST_LOOK = 120.0
"""We may have been stopped ourselves, together with the workers: a longer time between two looks is not all silence."""


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
        """Closes the pidfd, once nothing waits for it any more."""
        os.close(self.pidfd)


class Workers:
    """The workers this daemon knows of, by job. `command` is how one is started."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._known: dict[str, Worker] = {}

    def __len__(self) -> int:
        return len(self._known)

    def start(self, order: WorkOrder, *, log: Path) -> Worker:
        """Starts a worker that inherits `order.lock_fd`. Raises `OSError` (EAGAIN, ENOMEM, EMFILE).

        What it writes to standard error (a traceback, at worst) goes to the job's log.
        """
        stdin = _readable(order.to_json())
        try:
            stderr = _open_log(log)
            try:
                child, pidfd = start_child(self._command, stdin=stdin, stderr=stderr, pass_fds=(order.lock_fd,))
            finally:
                if stderr != subprocess.DEVNULL:
                    os.close(stderr)
        finally:
            os.close(stdin)
        worker = Worker(job=order.job, attempt=order.attempt, pid=child.pid, pidfd=pidfd, child=child)
        self._known[order.job] = worker
        return worker

    def adopt(self, job: str, *, attempt: int, pid: int | None, started_at: float | None) -> Worker | None:
        """Watches a worker of an earlier daemon, if the process of `pid` is it; None if it is known already or not found."""
        if job in self._known or pid is None or started_at is None or not _started_about(pid, started_at):
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        self._known[job] = Worker(job=job, attempt=attempt, pid=pid, pidfd=pidfd, child=None)
        return self._known[job]

    def all(self) -> tuple[Worker, ...]:
        """Returns every worker that is known to run."""
        return tuple(self._known.values())

    def of(self, job: str) -> Worker | None:
        """Returns the worker of a job."""
        return self._known.get(job)

    def unreaped(self, job: str) -> bool:
        """Whether a child of ours had the job and was not reaped yet: its lock is free a moment before."""
        worker = self._known.get(job)
        return worker is not None and worker.child is not None

    def stop(self, job: str) -> None:
        """Sends SIGTERM, once. The worker looks at the spool for what is meant by it."""
        worker = self._known.get(job)
        if worker is not None and not worker.stop_asked:
            worker.stop_asked = True
            _send(worker, signal.SIGTERM)

    def kill(self, job: str) -> None:
        """Sends SIGKILL, for a worker that did not obey."""
        worker = self._known.get(job)
        if worker is not None:
            _send(worker, signal.SIGKILL)

    def reap(self) -> list[tuple[Worker, str]]:
        """Returns the workers that have ended, each with how it ended, in words. Their pidfds stay open until `worker.close`."""
        ended = []
        for worker in self.all():
            if has_ended(worker.pidfd):
                how = _how(worker.child.wait()) if worker.child else "ended without an outcome"
                del self._known[worker.job]
                ended.append((worker, how))
        return ended


@dataclass(slots=True, kw_only=True)
class _Seen:
    """A worker at the last look: its sign of life then, and for how many seconds it had been the same."""

    pid: int
    sign: tuple[int, int]
    looked: float
    silent: float = 0.0


class HungWatch:
    """Finds workers that show no sign of life, tells them to stop, and kills those that do not. `clock` is replaced in tests.

    A sign is processor time, or a new `JOB.status`: a worker that restores uses some of the one and writes the other once a second,
    and one that waits for a slow server has deadlines of its own. One that is stopped (SIGSTOP), or waits for itself for ever,
    shows neither. A worker in an endless loop is not found so: what it reads is bounded, and so are its loops.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def look(self, workers: Workers, spool: Spool, *, deadline: float) -> None:
        """Looks at every worker; sends SIGTERM after `deadline` seconds of silence, SIGKILL a minute later."""
        known = workers.all()
        self._seen = {worker.job: self._silence(worker, spool) for worker in known}
        for worker in known:
            silent = self._seen[worker.job].silent
            if silent < deadline:
                continue
            if not worker.hung:
                worker.hung = f"showed no sign of life for {deadline:.0f} s and was stopped"
                _log.error("a worker hangs", extra={"job": printable(worker.job), "pid": worker.pid, "seconds": round(silent)})
                workers.stop(worker.job)
            elif silent >= deadline + GRACE_SECONDS:
                workers.kill(worker.job)

    def _silence(self, worker: Worker, spool: Spool) -> _Seen:
        now, sign = self._clock(), _sign(worker.pid, spool.status(worker.job))
        before = self._seen.get(worker.job)
        if before is None or (before.pid, before.sign) != (worker.pid, sign):
            return _Seen(pid=worker.pid, sign=sign, looked=now)
        silent = before.silent + min(now - before.looked, _LONGEST_LOOK)
        return _Seen(pid=worker.pid, sign=sign, looked=now, silent=silent)


def _sign(pid: int, status: Path) -> tuple[int, int]:
    """Processor time in ticks, and when the status was written."""
    ticks = written = 0
    try:
        fields = _process(pid)
        ticks = int(fields[11]) + int(fields[12])
        written = os.stat(status).st_mtime_ns
    except OSError:
        pass  # it has just ended, or the status was removed: then the other one has to do
    return ticks, written


def _process(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat (proc(5)) after the name. Raises `OSError`."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _send(worker: Worker, number: signal.Signals) -> None:
    if send(worker.pidfd, number):
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
    """Whether the process began when the status says its worker did: then the pid was not given to another process since."""
    try:
        since_boot = int(_process(pid)[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return False
    began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    # The worker writes the time once it has been loaded; on a busy machine that takes a while.
    return -_CLOCK_SLACK <= started_at - began <= 10 * _CLOCK_SLACK
