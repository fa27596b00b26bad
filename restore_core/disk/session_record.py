"""The record of an instant session: which guest runs from which backup, and where its disk is now. Data and pure decisions.

    D1.phd-session                 the record, one for all disks of a VM, beside the first of them (D is the flat or raw file)
    D.phd-overlay.qcow2            the overlay: what the guest wrote, over the server of the backup
    D.phd-overlay-finishing.qcow2  the overlay while it is copied into D: no guest can open it by the name in its configuration

`SessionState` is the table of states; docs/instant.md says for each what lies where, and what a crash in it leaves.
"""

from __future__ import annotations

import enum
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from restore_core.disk.destination import names_for
from restore_core.durable import read_plain

RECORD_SUFFIX = ".phd-session"
OVERLAY_SUFFIX = ".phd-overlay.qcow2"
FINISHING_SUFFIX = ".phd-overlay-finishing.qcow2"
SESSION_SUFFIXES = (RECORD_SUFFIX, OVERLAY_SUFFIX, FINISHING_SUFFIX)
SESSION_ID = re.compile(r"[0-9a-f]{12}")
VERSION = 1
_MOST = 1 << 20


_NONE: frozenset[str] = frozenset()


class SessionState(enum.Enum):
    """The states that a record can say, each with: whether the guest's disk is the overlay, and the states that may follow.

    That the server answers, that the disk is restored, that somebody uses the overlay is seen each time, and never kept.
    """

    restores: bool
    """Whether the job of the session may write the disk."""
    in_overlay: bool
    """Whether the overlay holds what the guest wrote, and the disk does not: nothing but this file has it."""
    follow: frozenset[str]

    STARTING = "starting", False, False, frozenset({"serving", "discarding"})
    SERVING = "serving", True, True, frozenset({"finishing", "discarding"})
    FINISHING = "finishing", False, True, frozenset({"pivoting", "finished", "discarding", "serving"})
    PIVOTING = "pivoting", False, True, frozenset({"finished", "finishing"})
    FINISHED = "finished", False, False, _NONE
    DISCARDING = "discarding", False, False, _NONE

    def __new__(cls, word: str, *columns: Any) -> Self:
        """Makes the word the value of the member: `SessionState("serving")`."""
        state = object.__new__(cls)
        state._value_ = word
        state.restores, state.in_overlay, state.follow = columns
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDisk:
    """One disk of a session: the path of its descriptor (or raw image), the backup that is served, and the job that restores it.

    `export` is its name at the server, `size` its bytes. The inodes are those of the overlay, from `serving` on, and of the
    restored disk, from `finishing` on; the stamps (inode, size, mtime) those when both were equal, for a live finish.
    """

    path: str
    delta: str
    delta_id: str
    export: str
    size: int
    full: str | None = None
    job: str = ""
    overlay_inode: int = 0
    disk_inode: int = 0
    overlay_stamps: tuple[int, ...] = ()
    disk_stamps: tuple[int, ...] = ()

    @property
    def flat(self) -> Path:
        """The path of the file with the bytes of the disk."""
        return Path(self.path).with_name(names_for(Path(self.path), confined=False)[0])

    @property
    def overlay(self) -> Path:
        """The path of the overlay, where a guest opens it."""
        return beside(self.flat, OVERLAY_SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantSession:
    """One session. `options` are those of its jobs, as a control file has them; `socket` is where its server listens."""

    id: str
    state: SessionState
    disks: tuple[SessionDisk, ...]
    began: float
    socket: str
    vm: str = ""
    options: tuple[tuple[str, object], ...] = ()
    priority: int = 5
    boot: str = ""
    """The kernel's id of the boot in which the stamps were taken."""
    ran: bool = False
    """Whether the guest ran before a live finish stopped it: then it runs on afterwards."""

    @property
    def record(self) -> Path:
        """The path of the record."""
        return beside(self.disks[0].flat, RECORD_SUFFIX)

    def to(self, state: SessionState, **changes: Any) -> InstantSession:
        """Returns the session in its next state. Raises `ValueError` for one that cannot follow."""
        if state.value not in self.state.follow and state is not self.state:
            raise ValueError(f"a session that is {self.state.value} cannot become {state.value}")
        return replace(self, state=state, **changes)

    def disk_at(self, path: Path, delta: str) -> SessionDisk | None:
        """Returns the disk of this path that is served from this backup; None if there is none."""
        return next((one for one in self.disks if (one.path, one.delta) == (os.fspath(path), delta)), None)

    def to_json(self) -> bytes:
        """Returns the record's text."""
        data = {"version": VERSION, **asdict(self), "state": self.state.value, "options": dict(self.options)}
        return json.dumps(data, indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClaim:
    """What the job of a session shows to the guard: the id of the session, and where its record is (None: that is not known)."""

    id: str
    record: Path | None = None


def back_to_serving(session: InstantSession) -> InstantSession:
    """Returns a session whose finish was given up before a byte of a disk was changed."""
    return session.to(SessionState.SERVING, disks=tuple(replace(disk, disk_inode=0) for disk in session.disks))


def beside(flat: Path, suffix: str) -> Path:
    """Returns the path of a file of a session beside the disk `flat`."""
    return flat.with_name(flat.name + suffix)


def parse_session(text: bytes) -> InstantSession | None:
    """Returns the session that a record says; None for what is no record, or one of another version."""
    try:
        data = json.loads(text)
        if data.pop("version") != VERSION:
            return None
        disks = tuple(_disk(one) for one in data.pop("disks"))
        options = tuple(sorted(data.pop("options").items()))
        return InstantSession(disks=disks, options=options, state=SessionState(data.pop("state")), **data) if disks else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _disk(data: dict[str, Any]) -> SessionDisk:
    lists: dict[str, Any] = {key: tuple(data.pop(key)) for key in ("overlay_stamps", "disk_stamps")}
    return SessionDisk(**data, **lists)


def is_home(session: InstantSession, found: Path) -> bool:
    """Whether the record that was found here is the one of its session, and not a copy, or one that was moved."""
    try:
        return os.path.samefile(session.record, found)
    except OSError:
        return False


def read_session(path: Path) -> InstantSession | None:
    """Returns the session of a record; None if there is none that can be read. Raises `OSError` if it could not be looked at."""
    try:
        return parse_session(read_plain(path, _MOST))
    except (FileNotFoundError, NotADirectoryError):
        return None
