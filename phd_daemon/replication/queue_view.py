"""The queue as a rule sees it: what is asked for where, by jobs that wait, run, or have ended."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

from phd_daemon.spool.control_file import MAX_BYTES, ControlFile, parse_control_file
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.snapshot import JobView, snapshot
from restore_core.errors import BadControlFile, ExitCode
from restore_core.replication.selection import Phase, QueuedJob

_PHASES = {None: Phase.ACTIVE, ExitCode.DONE: Phase.DONE, ExitCode.INTERRUPTED: Phase.CANCELLED}
"""By the exit code of a job's state; every other end is a failure."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def queued_jobs(spool: Spool) -> tuple[QueuedJob, ...]:
    """All jobs whose wishes can be read. Raises `OSError` when the spool cannot be."""
    found = []
    for view in snapshot(spool.folder, time.time()):
        archive, destination = view.delta, view.restore_to
        if not archive or not view.accepted:
            control = _control(spool.control(view.name, view.state))
            if control is None:
                continue
            archive, destination = str(control.delta), os.fspath(control.restore_to)
        found.append(_job(view, archive, destination))
    return tuple(found)


def _job(view: JobView, archive: str, destination: str) -> QueuedJob:
    phase = _PHASES.get(view.state.exit_code, Phase.FAILED)
    return QueuedJob(
        name=view.name,
        state=view.state.meaning,
        phase=phase,
        archive=archive,
        destination=Path(destination),
        finished=None if phase is Phase.ACTIVE else dt.datetime.fromtimestamp(view.since, dt.UTC),
        exit_code=view.exit_code,
    )


def _control(path: Path) -> ControlFile | None:
    """What a control file asks for that the daemon has not taken yet; None for one that asks for nothing clear."""
    try:
        fd = os.open(path, _READ)
    except OSError:
        return None
    try:
        return parse_control_file(os.pread(fd, MAX_BYTES + 1, 0))
    except (OSError, BadControlFile):
        return None
    finally:
        os.close(fd)
