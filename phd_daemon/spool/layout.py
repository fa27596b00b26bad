"""Names in the spool: which state a control file is in, where everything that belongs to a job lies.

    crm.job  crm.held  crm.running  crm.done  crm.failed  crm.cancelled  crm.rejected      the control file, by state
    crm.log  crm.status                                                                    beside it
    .state/crm.json  .state/crm.lock  .state/.daemon.lock  .state/.datastores.json         the daemon's own

The stem may hold any byte a file name may, dots included; names that begin with a dot are nobody's jobs. Editors'
droppings (`crm.job~`, `crm.job.tmp`, `.crm.job.swp`, `#crm.job#`) end differently and are never met as jobs.
"""

from __future__ import annotations

import enum
import os
import re
from dataclasses import dataclass
from pathlib import Path

MAX_STEM_BYTES = 200
"""A longer stem could not be rotated or get a log beside it: 255 is the limit of a name."""
STATE_FOLDER = ".state"
LOG, STATUS = "log", "status"
_ROTATED = re.compile(r"(?P<stem>.+)\.~(?P<number>[1-9]\d*)\Z", re.DOTALL)


class State(enum.Enum):
    """Where a job is; the value is the extension of its control file."""

    WAITING = "job"
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def meaning(self) -> str:
        """The state as people read it."""
        return _MEANINGS[self]

    @property
    def final(self) -> bool:
        """Nothing more will happen to it by itself."""
        return self in FINAL


FINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED, State.REJECTED})
_MEANINGS = {
    State.WAITING: "waiting",
    State.HELD: "held",
    State.RUNNING: "running",
    State.DONE: "done",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.REJECTED: "rejected",
}
_BY_EXTENSION = {state.value: state for state in State}


def parse_name(name: str) -> tuple[str, State] | None:
    """Stem and state of a control file's name; None for any other name."""
    stem, dot, extension = name.rpartition(".")
    state = _BY_EXTENSION.get(extension)
    if not dot or not stem or stem.startswith(".") or state is None:
        return None
    return stem, state


def is_stem(name: str) -> bool:
    """Whether a job may be called so: a name in the spool, no path out of it and none of the daemon's own files."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def side_file(name: str) -> str | None:
    """The stem of a log or a status file; None for any other name."""
    stem, dot, extension = name.rpartition(".")
    return stem if dot and stem and not stem.startswith(".") and extension in (LOG, STATUS) else None


def too_long(stem: str) -> bool:
    """The stem is longer than a job's may be; what a rotation added to it does not count."""
    rotated = rotated_of(stem)
    return len(os.fsencode(rotated[0] if rotated else stem)) > MAX_STEM_BYTES


def rotated_of(stem: str) -> tuple[str, int] | None:
    """`crm.~2` is the second rotation of `crm`; None for a stem that is not a rotated one."""
    match = _ROTATED.match(stem)
    return (match["stem"], int(match["number"])) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """Where things lie in one spool folder."""

    folder: Path

    @property
    def state_folder(self) -> Path:
        """Root's own corner of the spool."""
        return self.folder / STATE_FOLDER

    @property
    def receipts(self) -> Path:
        """Records of what restores wrote: which disks are ours, and what is in them."""
        return self.state_folder / "receipts"

    @property
    def datastores(self) -> Path:
        """Which disk each datastore is."""
        return self.state_folder / ".datastores.json"  # the dot: a job may be called "datastores", see below

    @property
    def daemon_lock(self) -> Path:
        """Held by the one daemon of this spool."""
        # The dot: a job may be called "daemon", but no stem begins with a dot.
        return self.state_folder / ".daemon.lock"

    def control(self, stem: str, state: State) -> Path:
        """The control file of a job in a state."""
        return self.folder / f"{stem}.{state.value}"

    def log(self, stem: str) -> Path:
        """The job's log."""
        return self.folder / f"{stem}.{LOG}"

    def status(self, stem: str) -> Path:
        """The job's progress and outcome."""
        return self.folder / f"{stem}.{STATUS}"

    def record(self, stem: str) -> Path:
        """What the daemon knows of the job."""
        return self.state_folder / f"{stem}.json"

    def lock(self, stem: str) -> Path:
        """The lock that lives as long as the job's worker."""
        return self.state_folder / f"{stem}.lock"
