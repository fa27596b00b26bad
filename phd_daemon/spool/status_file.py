"""`JOB.status`: progress and outcome of one job as JSON, replaced atomically.

It has one writer at a time: the worker while it holds the job's lock, the daemon otherwise. The outcome is durable before the
daemon renames the control file to its final state; progress need not survive a power cut. Times are seconds since the epoch;
people see them through `phd queue`.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import LOG
from phd_daemon.spool.own_files import open_own, write_own

VERSION = 1
MAX_STATUS_BYTES = 1 << 20


class Result(enum.Enum):
    """How one attempt ended, as its worker reports it."""

    DONE = "done"
    FAILED = "failed"
    TRY_AGAIN = "try again"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """The daemon told the worker to stop: the job waits again and the attempt does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one attempt. `exit_code` is that of `phd restore` for the same work.

    `counted` is False for an end that uses up no try: the disk is in use, and the job only waits for that to end.
    """

    attempt: int
    result: Result
    exit_code: int
    reason: str
    finished_at: float
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProgress:
    """What `phd queue` shows of a running job, in bytes, bytes a second and seconds. `remaining` is None while unknown."""

    phase: str
    percent: float
    done: int
    total: int
    rate: float
    elapsed: float
    remaining: float | None
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The contents of a status file. `tries` and `deaths` count as in the job's record.

    `uid` is the submitter's, who may read the file; if it is None, only the daemon and the spool's group may.
    """

    job: str
    state: str
    submitter: str
    uid: int | None = None
    delta: str
    restore_to: str
    priority: int
    note: str = ""
    accepted_at: float
    attempt: int = 0
    tries: int = 0
    deaths: int = 0
    next_try: float | None = None
    not_before: float | None = None
    why_waiting: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    pid: int | None = None
    plan: dict[str, int] | None = None
    progress: LiveProgress | None = None
    outcome: Outcome | None = None

    def with_(self, **changes: Any) -> JobStatus:
        """Returns a copy with some fields changed."""
        return replace(self, **changes)


def write_status(path: Path, status: JobStatus, *, durable_now: bool) -> None:
    """Replaces the status file atomically. Notes in the job's log what else had its name. Raises `OSError`."""
    document = {"version": VERSION, **asdict(status)}
    if status.outcome is not None:
        document["outcome"]["result"] = status.outcome.result.value
    text = json.dumps(document, indent=1, ensure_ascii=True).encode() + b"\n"
    said = write_own(path, text, durable_now=durable_now, reader=status.uid)
    if said:
        JobLog(path.with_name(f"{path.name.rpartition('.')[0]}.{LOG}"), reader=status.uid).line(said, past_cap=True)


def read_status(path: Path) -> JobStatus | None:
    """Returns the status, None if there is none or it cannot be read. It is for people; the control files say what is true."""
    try:
        with open_own(path) as file:
            data = json.loads(file.read(MAX_STATUS_BYTES))
        data.pop("version")
        if data["outcome"] is not None:
            data["outcome"] = Outcome(**{**data["outcome"], "result": Result(data["outcome"]["result"])})
        if data["progress"] is not None:
            data["progress"] = LiveProgress(**data["progress"])
        return JobStatus(**data)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
