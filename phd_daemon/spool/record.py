"""`.state/JOB.json`: what the daemon alone knows of a job it has accepted. Root only, versioned.

The text is the copy made at the door: what runs is this, whatever becomes of the control file. The identity says
which file it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from phd_daemon.spool.control_file import ControlFile, parse_control_file
from phd_daemon.spool.layout import State
from phd_daemon.spool.own_files import write_own
from phd_daemon.spool.plain import open_plain
from restore_core.disk.identity import Identity
from restore_core.errors import BadControlFile

VERSION = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One accepted (or rejected) job.

    `size` and `mtime_ns` are those of the control file when last compared with `text`; `not_before_ns` is the schedule
    that a person gave it by its time, which an edit does not take away; `arrived_ns` is its place in the queue; times
    are seconds since the epoch. `attempt` counts runs, `tries` those that ended with "try again", `deaths` workers that
    died without an outcome. `control` is None for a rejected one, whose text may be anything.
    """

    stem: str
    state: State
    identity: Identity
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
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerRecord:
    """Written by a newer version of this program: the job is left alone until that version runs again."""

    version: int


def write_record(path: Path, record: JobRecord, *, durable_now: bool = True) -> None:
    """Replace the record. Raises `OSError`."""
    document: dict[str, Any] = {"version": VERSION}
    for name in record.__slots__:
        if name != "control":
            document[name] = getattr(record, name)
    document["state"] = record.state.value
    document["identity"] = asdict(record.identity)
    write_own(path, json.dumps(document, indent=1).encode() + b"\n", durable_now=durable_now, private=True)


def read_record(path: Path) -> JobRecord | NewerRecord | None:
    """The record, or None when there is none or it is damaged: then the control file is simply accepted again."""
    try:
        with open_plain(path) as file:
            data = json.loads(file.read(_MAX_BYTES))
        version = data.pop("version")
        if not isinstance(version, int):
            return None
        if version != VERSION:
            return NewerRecord(version=version)
        data["state"] = State(data["state"])
        data["identity"] = Identity(**data["identity"])
        control = parse_control_file(data["text"].encode()) if data["state"] is not State.REJECTED else None
        return JobRecord(**data, control=control)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BadControlFile):
        return None
