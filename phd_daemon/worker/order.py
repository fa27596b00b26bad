"""The work order: one JSON document that the daemon writes to the standard input of a worker.

It holds all that the worker needs: the worker reads no configuration, no control file and no environment.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.disk.session_record import SessionClaim
from restore_core.restore.request import RestoreOptions, RestoreRequest
from restore_core.targets import parse_ref
from restore_core.targets.base import TargetSpec

VERSION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder:
    """One attempt of one job. `lock_fd` is the inherited descriptor of the job's lock, held while the worker lives.

    `session` is the id of the instant session whose job this is, `session_record` the path of its record; empty for other jobs.
    """

    job: str
    attempt: int
    spool: str
    lock_fd: int
    delta: str
    restore_to: str
    full: str | None
    options: RestoreOptions
    roots: tuple[str, ...]
    mode: int
    reserved: int
    records: str
    datastores: str
    catalog: str
    catalog_max_age: float
    targets: tuple[TargetSpec, ...]
    decided_at: float = 0.0
    session: str = ""
    session_record: str = ""

    def request(self) -> RestoreRequest:
        """Returns the restore that this order asks for."""
        roots = tuple(Path(root) for root in self.roots)
        return RestoreRequest(
            delta=parse_ref(self.delta),
            full=parse_ref(self.full) if self.full else None,
            destination=Path(self.restore_to),
            roots=roots,
            options=self.options,
            mode=self.mode,
            reserved=self.reserved,
            records=Path(self.records),
            datastores=DatastoreRecord(file=Path(self.datastores), roots=roots),
            again=self.attempt > 1,
            catalog=Path(self.catalog),
            catalog_max_age=self.catalog_max_age,
            decided_at=self.decided_at,
            session=SessionClaim(id=self.session, record=Path(self.session_record) if self.session_record else None)
            if self.session
            else None,
        )

    def to_json(self) -> bytes:
        """Returns the order as JSON, for the worker's standard input."""
        return json.dumps({"version": VERSION, **asdict(self), "options": self.options.chosen()}).encode()


def from_json(text: bytes) -> WorkOrder:
    """Returns the order in this JSON. Raises `ValueError` for one of another version."""
    data = json.loads(text)
    if data.pop("version", None) != VERSION:
        raise ValueError("work order of another version: phd was upgraded while its daemon ran; restart the daemon")
    data["options"] = RestoreOptions.parse(data["options"])
    data["roots"] = tuple(data["roots"])
    data["targets"] = tuple(TargetSpec(**spec) for spec in data["targets"])
    return WorkOrder(**data)
