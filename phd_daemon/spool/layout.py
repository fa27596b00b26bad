"""The states of a job, and the names of its files in the spool.

    crm.job  crm.held  crm.running  crm.done  crm.failed  crm.cancelled  crm.rejected      the control file, by state
    crm.log  crm.status                                                                    beside it
    .state/crm.json  .state/crm.lock  .state/.daemon.lock  .state/.datastores.json         the daemon's own

The stem (`crm`) may hold any byte that a file name may, dots included, but does not begin with a dot. Temporary files of editors
(`crm.job~`, `crm.job.tmp`, `.crm.job.swp`, `#crm.job#`) have other endings, so they are no jobs.
"""

from __future__ import annotations

import enum
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from restore_core.errors import ExitCode
from restore_core.naming import MAX_NAME_BYTES, comparable, printable

MAX_STEM_BYTES = 200
"""A longer stem leaves no room for the names of its log and its rotations: 255 bytes is the limit of a name."""
STATE_FOLDER = ".state"
LOG, STATUS = "log", "status"
_ROTATED = re.compile(r"(?P<stem>.+)\.~(?P<number>[1-9]\d*)\Z", re.DOTALL)


class Act(enum.Enum):
    """What a person may ask for a job, in the order of menus; the value is the name of the command."""

    HOLD = "hold"
    RELEASE = "release"
    PRIORITY = "priority"
    RETRY = "retry"
    REMOVE = "clean"
    CANCEL = "cancel"


_ENDED = frozenset({Act.RETRY, Act.REMOVE})


class State(enum.Enum):
    """The table of job states. One row holds everything that is said of a state; a new state is a new row.

    The columns: suffix of the control file (it is the value of the member); `meaning`, the word people read; `place` in lists of
    jobs; `moves_on`, whether the daemon does the next step without a person; `exit_code` of a job that ended so and whose status
    file is lost, None for a job that has not ended; `acts`, what a person may ask for.
    """

    meaning: str
    place: int
    moves_on: bool
    exit_code: ExitCode | None
    acts: frozenset[Act]

    WAITING = "job", "waiting", 1, True, None, frozenset({Act.HOLD, Act.CANCEL, Act.PRIORITY})
    HELD = "held", "held", 2, False, None, frozenset({Act.RELEASE, Act.CANCEL})
    RUNNING = "running", "running", 0, True, None, frozenset({Act.CANCEL})
    DONE = "done", "done", 3, False, ExitCode.DONE, _ENDED
    FAILED = "failed", "failed", 3, False, ExitCode.TRY_AGAIN, _ENDED
    CANCELLED = "cancelled", "cancelled", 3, False, ExitCode.INTERRUPTED, _ENDED
    REJECTED = "rejected", "rejected", 3, False, ExitCode.BAD_DATA, _ENDED

    def __new__(cls, suffix: str, *columns: Any) -> Self:
        """Makes the suffix the value of the member: `State("held")`."""
        state = object.__new__(cls)
        state._value_ = suffix
        state.meaning, state.place, state.moves_on, state.exit_code, state.acts = columns
        return state

    @property
    def final(self) -> bool:
        """Whether the job has ended: nothing more happens to it by itself."""
        return self.exit_code is not None


_PASSING = re.compile(
    r"[.#].*|.*(?:[~#]|\.(?:te?mp|sw[a-z]|swap|part|filepart|bak|old|orig|save|new|lo?ck|aside-[0-9a-f]{8}))|\d+|sed\w{6}|.*\.(?:log|status)(?:\..*)?",
    re.DOTALL | re.IGNORECASE,
)
"""Names that editors, copies and the daemon itself use for a while (vim 4913, sed -i sedXXXXXX), and logs that were kept."""
_LONGEST_SUFFIX = len(".cancelled")
_MEANT = re.compile(r"(?P<stem>.+?)\.(?P<suffix>job|held)(?:\..*)?", re.DOTALL | re.IGNORECASE)
FINAL = frozenset(state for state in State if state.final)
_BY_SUFFIX = {state.value: state for state in State}


def allowing(act: Act) -> tuple[State, ...]:
    """Returns the states in which a person may ask for this, in the order of lists, a successful end last."""
    states = (state for state in State if act in state.acts)
    return tuple(sorted(states, key=lambda state: (state.place, state.exit_code is ExitCode.DONE)))


def parse_name(name: str) -> tuple[str, State] | None:
    """Returns stem and state of a control file's name; None for any other name."""
    stem, dot, suffix = name.rpartition(".")
    state = _BY_SUFFIX.get(suffix)
    if not dot or not stem or stem.startswith(".") or state is None:
        return None
    return stem, state


def is_stem(name: str) -> bool:
    """Whether it can be the stem of a job: a name in the spool, no path out of it, and no file of the daemon's own."""
    fits = len(os.fsencode(name)) + _LONGEST_SUFFIX <= MAX_NAME_BYTES
    return bool(name) and fits and not name.startswith(".") and "/" not in name and "\0" not in name


def as_stored(folder: Path, job: str) -> str:
    """Returns the name of a job as its files in the spool have it: accents may be stored in two ways, and are typed in one.

    The name itself if it has files, if no other job is named so, or if several are. Raises `OSError`.
    """
    if job.isascii():
        return job
    found = {stem for name in os.listdir(folder) if (stem := stem_of(name)) and comparable(stem) == comparable(job)}
    return found.pop() if job not in found and len(found) == 1 else job


def stem_of(name: str) -> str | None:
    """Returns the stem of any file of a job; None for another file."""
    known = parse_name(name)
    return known[0] if known is not None else side_file(name)


def side_file(name: str) -> str | None:
    """Returns the stem of the name of a log or a status file; None for any other name."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and not stem.startswith(".") and suffix in (LOG, STATUS) else None


def why_no_job(name: str) -> str | None:
    """Returns why a file of this name in the spool is never read, and what its name should be; None if nothing has to be said.

    Nothing is said of control files, logs, status files and whatever lies there for a while only.
    """
    known = parse_name(name)
    if known is not None and too_long(known[0]):
        return f"never read: its name is longer than {MAX_STEM_BYTES} bytes; rename it to something shorter"
    if known is not None or side_file(name) is not None or _PASSING.fullmatch(name):
        return None
    if (right := meant_name(name)) is not None:
        return f"never read: a control file is called {printable(right)}, in small letters and with nothing after it"
    return f"never read: a control file is called NAME.{State.WAITING.value}"


def meant_name(name: str) -> str | None:
    """Returns the name of the control file that was meant: `esx.job` for `esx.JOB` and `esx.job.txt`; None if none can be seen."""
    known = parse_name(name)
    if known is not None and too_long(known[0]):
        return f"{os.fsencode(known[0])[:MAX_STEM_BYTES].decode(errors='ignore')}.{known[1].value}"
    found = _MEANT.fullmatch(name)
    return f"{found['stem']}.{found['suffix'].lower()}" if found else None


def how_to_retry(stem: str, state: State) -> str:
    """Returns the line that ends the log of a job that failed or was rejected."""
    typed = f"{'-- ' if stem.startswith('-') else ''}{shlex.quote(printable(stem))}"
    file = f"{printable(stem)}.{state.value}"
    has = "was rejected" if state is State.REJECTED else "has failed"
    return f"what to do now that it {has}: mend the cause, then: phd retry {typed}; what it asks for can be edited in {file}"


def too_long(stem: str) -> bool:
    """Whether the stem is longer than a job's may be; what a rotation added to it does not count."""
    rotated = rotated_of(stem)
    return len(os.fsencode(rotated[0] if rotated else stem)) > MAX_STEM_BYTES


def rotated_of(stem: str) -> tuple[str, int] | None:
    """Returns ("crm", 2) for `crm.~2`, the second rotation of `crm`; None for a stem that is not a rotated one."""
    match = _ROTATED.match(stem)
    return (match["stem"], int(match["number"])) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The paths in one spool folder."""

    folder: Path

    @property
    def state_folder(self) -> Path:
        """The folder that only the daemon's user may read."""
        return self.folder / STATE_FOLDER

    @property
    def receipts(self) -> Path:
        """The folder of receipts: which disks we have written, and what is in them."""
        return self.state_folder / "receipts"

    @property
    def datastores(self) -> Path:
        """The file that says which disk each datastore is."""
        return self.state_folder / ".datastores.json"  # the dot: a job may be called "datastores", see below

    @property
    def sessions(self) -> Path:
        """The folder of instant sessions: for each a file that says where its record is."""
        return self.state_folder / ".sessions"

    @property
    def daemon_lock(self) -> Path:
        """The lock file of the one daemon of this spool."""
        # The dot: a job may be called "daemon", but no stem begins with a dot.
        return self.state_folder / ".daemon.lock"

    def control(self, stem: str, state: State) -> Path:
        """Returns the path of a job's control file in a state."""
        return self.folder / f"{stem}.{state.value}"

    def log(self, stem: str) -> Path:
        """Returns the path of the job's log."""
        return self.folder / f"{stem}.{LOG}"

    def status(self, stem: str) -> Path:
        """Returns the path of the job's status file: progress and outcome."""
        return self.folder / f"{stem}.{STATUS}"

    def record(self, stem: str) -> Path:
        """Returns the path of the daemon's record of the job."""
        return self.state_folder / f"{stem}.json"

    def lock(self, stem: str) -> Path:
        """Returns the path of the lock that the job's worker holds."""
        return self.state_folder / f"{stem}.lock"
