"""What happened to jobs, passes, targets and datastores: one stream of records, for the daemon's log and whoever else reads it.

The daemon gives its `on_event` to the keeper of the spool, to the starting of workers and to the passes. It is called in the main
loop with each record, after the fact is on disk, and must return soon. A new kind of record is a class here and a member of
`Event`; `daemon.logs.log_event` says what the log writes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from phd_daemon.spool.intake import SubmittedFile
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.reconcile import Change, End, Forget, RenameOlder, WaitAgain, Withdraw
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.status_file import JobStatus, read_status
from restore_core.errors import PhdError
from restore_core.naming import parse_folder
from restore_core.replication.ledger import from_rule


@dataclass(frozen=True, slots=True, kw_only=True)
class OfJob:
    """An event of an accepted job. `job` is its record after the event: name, submitter, what it asks for, attempts, tries."""

    job: JobRecord

    @property
    def of_rule(self) -> bool:
        """Whether a rule of replication asked for it."""
        return from_rule(self.job.stem)

    @property
    def vm(self) -> str:
        """The VM's name, from the folder of the backup; empty where the path has no such folder."""
        folder = PurePosixPath(self.job.control.delta.path).parent.name if self.job.control else ""
        return parse_folder(folder).vm if folder else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAccepted(OfJob):
    """A control file became a job, or replaced one that had not run yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRejected:
    """A control file was refused. `error` holds the reason, its remedy and the exit code."""

    name: str
    file: SubmittedFile
    error: PhdError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(OfJob):
    """A worker was started for it."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAdopted(OfJob):
    """Its worker was started by an earlier daemon and still runs. `pid` is None where the status does not tell it."""

    pid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNotStarted:
    """No worker could be started for it: it waits, or has failed after the last try."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWaitsAgain(OfJob):
    """An attempt is over and another one follows; `job` holds the tries and deaths so far and the time of the next try.

    `why` is empty when the daemon is stopping.
    """

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded(OfJob):
    """It is done, failed or cancelled, as `job.state` says. `status` holds times and plan; None if its file cannot be read."""

    reason: str
    exit_code: int
    status: JobStatus | None

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took; None if it never ran."""
        status = self.status
        if status is None or status.started_at is None or status.finished_at is None:
            return None
        return status.finished_at - status.started_at

    @property
    def plan(self) -> Mapping[str, int]:
        """Blocks and bytes of the restore by source, as its plan counted them; empty if it came to none."""
        return (self.status.plan if self.status else None) or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRenamed(OfJob):
    """A newer control file has its name: it waits on under another one. `job` is the record before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWithdrawn(OfJob):
    """Somebody removed its control file while it waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobForgotten(OfJob):
    """Somebody removed its control file after it had ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassStarted:
    """A pass of replication was started."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PassEnded:
    """A pass is over. `said` is its summary, or the reason why there was none.

    `record` is its document in passes.jsonl, with all counts and a decision for each rule; None for a pass that left none.
    """

    exit_code: int
    said: str
    seconds: float
    record: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLost:
    """A target that answered does not answer any more."""

    target: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPartial:
    """A target answers, and could not list all that it holds."""

    target: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetBack:
    """A target that was lost or partial has listed all that it holds."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreLost:
    """Jobs wait for a datastore that is not mounted, or is another disk."""

    datastore: Path
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreBack:
    """A datastore that jobs waited for is there."""

    datastore: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """The daemon has looked at the whole spool once."""

    spool: Path
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped:
    """The daemon ends. `workers_left` are the jobs whose workers did not stop in time."""

    workers_left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BugFound:
    """An error that nobody expected was caught, in one step of the main loop or with one job. `message` says what goes on."""

    error: Exception
    message: str
    step: str = ""
    name: str = ""


JobEvent = JobAccepted | JobStarted | JobAdopted | JobWaitsAgain | JobEnded | JobRenamed | JobWithdrawn | JobForgotten
PassEvent = PassStarted | PassEnded | TargetLost | TargetPartial | TargetBack
DaemonEvent = DatastoreLost | DatastoreBack | DaemonStarted | DaemonStopped | BugFound
Event = JobEvent | JobRejected | JobNotStarted | PassEvent | DaemonEvent
OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Does nothing, for callers that nobody listens to."""


def of_move(spool: Spool, before: JobRecord, after: JobRecord | None, action: Change) -> Event | None:
    """Returns what a change of state means to others; None for one that only the daemon's own records show."""
    match action:
        case Withdraw():
            return JobWithdrawn(job=before)
        case Forget():
            return JobForgotten(job=before)
        case RenameOlder():
            return JobRenamed(job=before)
        case WaitAgain():
            return JobWaitsAgain(job=after or before, why=action.why)
        case End() if after is not None:
            reason = action.outcome.reason if action.outcome is not None else action.reason
            code = action.outcome.exit_code if action.outcome is not None else action.exit_code
            return JobEnded(job=after, reason=reason, exit_code=int(code), status=read_status(spool.status(after.stem)))
        case _:
            return None
