"""Finds workers that show no sign of life, tells them to stop, and kills them if they do not listen.

A sign is processor time, or a new `JOB.status`: what works uses some of the one and writes the other once a second, and what
waits for a slow server does so under deadlines of its own. One that is stopped (SIGSTOP), or waits for itself for ever,
shows neither. A worker that runs in a circle is not found so: what it reads is bounded, and so are its loops.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.daemon.children import Worker, Workers
from phd_daemon.spool.layout import Spool
from restore_core.naming import printable

_log = logging.getLogger(__name__)
GRACE_SECONDS = 60.0
_LONGEST_LOOK = 120.0
"""We may have been stopped ourselves, together with the workers: a longer time between two looks is not all silence."""


@dataclass(slots=True, kw_only=True)
class _Seen:
    pid: int
    sign: tuple[int, int]
    looked: float
    silent: float = 0.0


class HungWatch:
    """Remembers when each worker last showed a sign. `clock` is `time.monotonic` but in tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def look(self, workers: Workers, spool: Spool, *, deadline: float) -> None:
        """Look at every worker; SIGTERM after `deadline` seconds of silence, SIGKILL a minute later."""
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
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        written = os.stat(status).st_mtime_ns
    except OSError:
        pass  # it has just ended, or the status was removed: then the other one has to do
    return ticks, written
