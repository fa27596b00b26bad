"""What is seen of a session now: its server, its overlays, the restore of its disks, and what it waits for. Nothing is kept."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.follow import state_of
from phd_daemon.operations.installation import spool_of
from phd_daemon.operations.instant.session_server import server_trouble
from phd_daemon.operations.instant.session_start import is_restored
from phd_daemon.spool.layout import State
from phd_daemon.spool.session_hints import known_sessions
from phd_daemon.spool.status_file import read_status
from restore_core.disk.alone import image_is_locked
from restore_core.disk.session_record import FINISHING_SUFFIX, InstantSession, SessionDisk, SessionState, beside
from restore_core.errors import PhdError


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDisk:
    """One disk of a session. `overlay_bytes` are allocated; None: there is no overlay. `percent` is None while no job restores."""

    disk: SessionDisk
    overlay_bytes: int | None
    in_use: bool
    restored: bool
    job_state: State | None
    percent: float | None
    job_says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSession:
    """One session. `server` says why the server does not serve, empty if it does; `waits` are sentences for a person."""

    session: InstantSession
    server: str
    disks: tuple[SeenDisk, ...]
    waits: tuple[str, ...]


def all_sessions(config: Config) -> list[InstantSession]:
    """Returns the sessions that are known here, the oldest first."""
    return list(known_sessions(spool_of(config)))


def seen_session(config: Config, session: InstantSession) -> SeenSession:
    """Looks at a session. Nothing that cannot be looked at is an error."""
    server = server_trouble(session)
    disks = tuple(_seen(config, disk) for disk in session.disks)
    return SeenSession(session=session, server=server, disks=disks, waits=tuple(_waits(session, server, disks)))


def written_bytes(session: InstantSession) -> int:
    """Returns how many bytes the overlays hold on disk: what the guest wrote, and a little for their tables."""
    return sum(_overlay(disk)[0] or 0 for disk in session.disks)


def _seen(config: Config, disk: SessionDisk) -> SeenDisk:
    spool = spool_of(config)
    allocated, in_use = _overlay(disk)
    state = state_of(spool, disk.job)
    status = read_status(spool.status(disk.job)) if state is not None else None
    says = ""
    if status is not None:
        says = status.outcome.reason if status.outcome is not None and state is not State.RUNNING else status.why_waiting
    restored = False
    with contextlib.suppress(PhdError, OSError):
        restored = is_restored(config, disk)
    return SeenDisk(
        disk=disk,
        overlay_bytes=allocated,
        in_use=in_use,
        restored=restored,
        job_state=state,
        percent=status.progress.percent if status is not None and status.progress is not None else None,
        job_says=says,
    )


def _overlay(disk: SessionDisk) -> tuple[int | None, bool]:
    for path in (disk.overlay, beside(disk.flat, FINISHING_SUFFIX)):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.fstat(fd).st_blocks * 512, image_is_locked(fd)
            finally:
                os.close(fd)
    return None, False


def _waits(session: InstantSession, server: str, disks: tuple[SeenDisk, ...]) -> list[str]:
    if session.state is not SessionState.SERVING:
        word = {SessionState.STARTING: "start", SessionState.DISCARDING: "discard"}.get(session.state, "finish")
        return [f"'phd instant {word}' was interrupted: give it again"]
    found = [f"{server}; 'phd instant start' starts it again"] if server else []
    for one in disks:
        name = Path(one.disk.path).name
        if one.overlay_bytes is None:
            found.append(f"{name}: its overlay is gone; nothing makes a new one")
        if one.restored:
            continue
        if one.job_state in (None, State.FAILED, State.CANCELLED, State.REJECTED, State.DONE):
            found.append(
                f"{name}: nothing restores it ({one.job_says or 'there is no job'}); 'phd instant start' submits a job again"
            )
        elif one.job_says:
            found.append(f"{name}: {one.job_says}")
    if not found and all(one.restored for one in disks):
        found.append("every disk is restored: 'phd instant finish' can be given")
    return found
