"""The guard of instant sessions: whoever writes a disk looks, under its hold, whether a guest's writes lie in an overlay beside it.

While there is a record, an overlay, or an overlay that is being copied, of whatever kind of file, only three may write the disk:
`phd instant finish` and `discard`, and the job of the session itself, as long as the record says that the session is serving.
Everybody else is refused, to try again later: the overlay may be the only place where the guest's work is.
"""

from __future__ import annotations

import contextlib
import os

from restore_core.disk.destination import Destination
from restore_core.disk.session_record import (
    RECORD_SUFFIX,
    SESSION_SUFFIXES,
    InstantSession,
    SessionClaim,
    is_home,
    parse_session,
    read_session,
)
from restore_core.errors import DestinationError, InSession, from_os_error, is_no_answer
from restore_core.naming import MAX_NAME_BYTES, printable


def refuse_in_session(destination: Destination, claim: SessionClaim | None = None, delta: str = "") -> None:
    """Raises `InSession` if this disk is in a session; `claim` and `delta` are those of a session's own job.

    Raises `DestinationError` for a job whose session is over: what lies there now is the guest's. Raises the error of
    `from_os_error` if that cannot be seen.
    """
    try:
        there = session_names(destination)
        session = _claimed(claim) if claim is not None else None
    except OSError as error:
        raise from_os_error(error, doing="looking for an instant session", where=destination.where) from error
    if claim is None and not there:
        return
    if session is not None and session.state.restores and session.disk_at(destination.path, delta) is not None:
        return
    if there:
        raise in_session(destination, there)
    raise DestinationError(
        f"{destination.where}: the instant session of this job is over; the disk may be the guest's now, and was left alone",
        remedy="To have the backup all the same, queue a restore of its own: phd submit DELTA --to DISK --overwrite.",
    )


def session_names(destination: Destination) -> list[str]:
    """Returns which names of a session lie beside the disk: none that would be too long for a name. Raises `OSError`."""
    names = (destination.disk_name + suffix for suffix in SESSION_SUFFIXES)
    return [name for name in names if len(os.fsencode(name)) <= MAX_NAME_BYTES and destination.has(name)]


def in_session(destination: Destination, there: list[str]) -> InSession:
    """Returns the refusal of a disk beside which these names of a session lie."""
    session = None
    with contextlib.suppress(OSError):
        session = _beside(destination)
    which = f" ({session.id}, {session.state.value})" if session is not None else ""
    disk = printable(session.disks[0].path) if session is not None else destination.where
    return InSession(
        f"{destination.where}: an instant session uses this disk{which}: {printable(there[-1])} may hold what its guest wrote",
        remedy=f"End it first: 'phd instant finish {disk}' copies that into the disk, 'phd instant discard {disk}' throws it away. "
        "A queued job waits by itself and uses up no try.",
    )


def _beside(destination: Destination) -> InstantSession | None:
    """Returns the session whose record lies beside this disk; None for a copy, whose session has other files."""
    fd = destination.open(destination.disk_name + RECORD_SUFFIX)
    with open(fd, "rb") as file:
        session = parse_session(file.read(1 << 20))
    strayed = session is None or not is_home(session, destination.path.with_name(destination.disk_name + RECORD_SUFFIX))
    return None if strayed else session


def _claimed(claim: SessionClaim) -> InstantSession | None:
    """Returns the session that a job says it is of, if its record says so, too."""
    try:
        session = read_session(claim.record) if claim.record is not None else None
    except OSError as error:
        if is_no_answer(error):
            raise
        return None
    return session if session is not None and session.id == claim.id else None
