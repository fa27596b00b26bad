"""`.state/JOB.json`: the daemon's record of a job it has accepted. Only its user may read it; it has a version.

The text is a copy of the control file, made when it was accepted: the job runs as this copy says, even if the file changes later.
The identity says which file it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from phd_daemon.spool.control_file import ControlFile, parse_control_file
from phd_daemon.spool.layout import State
from phd_daemon.spool.own_files import open_unlinked, write_own
from phd_daemon.spool.status_file import JobStatus
from restore_core.disk.identity import FileIdentity
from restore_core.errors import BadControlFile

VERSION = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One accepted (or rejected) job. Times are seconds since the epoch.

    `size` and `mtime_ns` are those of the control file when it was last compared with `text`. `not_before_ns` is the schedule that
    a person gave the job by the file's time; an edit does not change it. `arrived_ns` decides its place in the queue. `attempt`
    counts runs, `tries` the runs that ended with "try again", `deaths` the workers that died without an outcome. `control` is None
    for a rejected job.
    """

    stem: str
    state: State
    identity: FileIdentity
    size: int
    mtime_ns: int
    not_before_ns: int
    arrived_ns: int
    accepted_at: float
    uid: int
    submitter: str
    text: str = ""
    control: ControlFile | None = None
    attempt: int = 0
    tries: int = 0
    deaths: int = 0
    next_try: float | None = None
    why_waiting: str = ""
    finished_at: float | None = None

    def with_(self, **changes: Any) -> JobRecord:
        """Returns a copy with some fields changed."""
        return replace(self, **changes)

    def fresh_status(self) -> JobStatus:
        """Returns the job's status with nothing of an earlier attempt in it."""
        control = self.control
        return JobStatus(
            job=self.stem,
            state=self.state.meaning,
            submitter=self.submitter,
            uid=self.uid,
            delta=str(control.delta) if control else "",
            restore_to=str(control.restore_to) if control else "",
            priority=control.priority if control else 5,
            note=control.note if control else "",
            accepted_at=self.accepted_at,
            attempt=self.attempt,
            tries=self.tries,
            deaths=self.deaths,
            next_try=self.next_try,
            not_before=self.not_before_ns / 1e9,
            why_waiting=self.why_waiting,
            finished_at=self.finished_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerRecord:
    """A record that a newer version of this program wrote: the job is left alone until that version runs again."""

    version: int


def write_record(path: Path, record: JobRecord, *, durable_now: bool = True) -> None:
    """Replaces the record file. Raises `OSError`."""
    named = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "control"}
    document = {"version": VERSION, **named, "state": record.state.value, "identity": asdict(record.identity)}
    write_own(path, json.dumps(document, indent=1).encode() + b"\n", durable_now=durable_now, private=True)


def read_record(path: Path) -> JobRecord | NewerRecord | None:
    """Returns the record, None if there is none or it is damaged: then the control file is accepted once more."""
    try:
        with open_unlinked(path) as file:
            data = json.loads(file.read(_MAX_BYTES))
        version = data.pop("version")
        if not isinstance(version, int):
            return None
        if version != VERSION:
            return NewerRecord(version=version)
        data["state"] = State(data["state"])
        data["identity"] = FileIdentity(**data["identity"])
        control = parse_control_file(data["text"].encode()) if data["text"] else None
        return JobRecord(**data, control=control)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BadControlFile):
        return None
