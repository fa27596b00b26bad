"""What a worker reports while it works: lines for `JOB.log`, numbers for `JOB.status`.

Both are only views of the work. A spool that is full or gone must not end a good restore, so errors of writing them are ignored;
only the outcome is written durably.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from phd_daemon.show.progress import Speed, delta_line, percent
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.status_file import JobStatus, LiveProgress, Outcome, write_status
from restore_core.restore.request import Phase, PlanSummary, Progress

LOG_EVERY = 5.0
STATUS_EVERY = 1.0
ROOM_EVERY = 0.5
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_AFTER = (Phase.FLUSH, Phase.READBACK, Phase.PUBLISH)


def live(progress: Progress, *, now: float) -> LiveProgress:
    """Returns the numbers at `now` (`time.monotonic()`) for `JOB.status`."""
    speed = Speed.at(progress, now)
    return LiveProgress(
        phase=progress.phase.value,
        percent=round(percent(progress.done, progress.disk_size), 1),
        done=progress.done,
        total=progress.disk_size,
        rate=speed.rate,
        elapsed=speed.elapsed,
        remaining=speed.remaining,
        line=delta_line(progress, now),
    )


class WorkerReport:
    """The `Reporter` of a worker. `clock` is replaced in tests."""

    def __init__(self, *, log: JobLog, path: Path, status: JobStatus, clock: Callable[[], float] = time.monotonic) -> None:
        self.log = log
        self.status = status
        self._path = path
        self._clock = clock
        self._phase: Phase | None = None
        self._logged = self._written = clock()

    def note(self, text: str) -> None:
        """Writes one line to the log."""
        self.log.line(text)

    def planned(self, plan: PlanSummary) -> None:
        """Writes the plan to the log and to the status."""
        self.log.line(f"planned: {plan.describe()}")
        self.status = self.status.with_(plan=asdict(plan))
        self.write()

    def progress(self, progress: Progress) -> None:
        """Writes a line every 5 s and when a phase ends, and the status once a second."""
        now = self._clock()
        if progress.phase is not self._phase:
            if self._phase not in _AFTER and progress.phase in _AFTER:
                # Also for a restore that ended before its first report.
                self.log.line(delta_line(replace(progress, phase=Phase.RESTORE), now))
            self._phase, self._logged = progress.phase, now
            self.log.line(progress.phase.value)
        elif now - self._logged >= LOG_EVERY:
            self._logged = now
            self.log.line(delta_line(progress, now))
        if now - self._written >= STATUS_EVERY:
            self.status = self.status.with_(progress=live(progress, now=now))
            self.write()

    def ended(self, outcome: Outcome, *, told_to_stop: Callable[[], bool]) -> None:
        """Writes the outcome durably. Waits for a spool without space: what was restored must not be forgotten.

        Raises `OSError` for any other reason, and when the worker is told to stop meanwhile: the next attempt finds the disk.
        """
        said = False
        while True:
            try:
                write_status(self._path, self.status.with_(outcome=outcome), durable_now=True)
            except OSError as error:
                if error.errno not in _NO_ROOM or told_to_stop():
                    raise
                if not said:
                    said = self.log.line("the spool has no room to say how this ended: waiting for some", past_cap=True)
                time.sleep(ROOM_EVERY)
            else:
                return

    def write(self) -> None:
        """Writes the status, not durably."""
        self._written = self._clock()
        with contextlib.suppress(OSError):
            write_status(self._path, self.status, durable_now=False)
