"""Instant sessions that wait for a person: one that began days ago, and an overlay whose record is gone.

What a guest wrote may lie in an overlay and nowhere else: only `phd instant finish` and `discard` remove one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from phd_daemon.doctor.finding import Finding
from phd_daemon.operations.instant.session_server import server_trouble
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.session_hints import known_sessions
from restore_core.disk.session_record import (
    FINISHING_SUFFIX,
    OVERLAY_SUFFIX,
    RECORD_SUFFIX,
    SESSION_SUFFIXES,
    InstantSession,
    SessionState,
    read_session,
)
from restore_core.disk.vmdk import descriptor_name_for, is_flat_name
from restore_core.naming import printable

_DAY = 86400.0
_OVERLAYS = (OVERLAY_SUFFIX, FINISHING_SUFFIX)


def is_of_session(name: str) -> bool:
    """Whether a file of this name belongs to an instant session."""
    return name.endswith(SESSION_SUFFIXES)


def disks_in_session(paths: Collection[Path]) -> frozenset[Path]:
    """Returns the flat or raw files that these files of sessions lie beside, and the descriptors of the flat ones."""
    disks = {path.with_name(path.name.removesuffix(end)) for path in paths for end in SESSION_SUFFIXES if path.name.endswith(end)}
    return frozenset(disks | {disk.with_name(descriptor_name_for(disk.name)) for disk in disks if is_flat_name(disk.name)})


def unfinished(paths: Collection[Path], now: float) -> list[Finding]:
    """Returns what is wrong with the sessions whose files are at these paths."""
    sessions, unread = [], []
    for path in sorted(path for path in paths if path.name.endswith(RECORD_SUFFIX)):
        session = _read(path)
        if session is None:
            unread.append(_unreadable(path))
        else:
            sessions.append(session)
    named = {os.path.realpath(disk.flat) for session in sessions for disk in session.disks}
    found = [*unread, *(_old(one, now) for one in sessions if now - one.began > _DAY)]
    overlays = sorted(path for path in paths if path.name.endswith(_OVERLAYS))
    return found + [_alone(path) for path in overlays if not named & set(map(os.path.realpath, disks_in_session([path])))]


def unserved(spool: Spool) -> Iterator[Finding]:
    """Yields the sessions, of those known here, whose guest cannot run now: no server answers, or an overlay is gone."""
    try:
        sessions = list(known_sessions(spool))
    except OSError:
        return  # only the daemon's user may look; what lies on the datastores is seen all the same
    for session in sessions:
        disk = printable(session.disks[0].path)
        if session.state is not SessionState.SERVING:
            continue
        lost = [one for one in session.disks if not _has_inode(one.overlay, one.overlay_inode)]
        for one in lost:
            yield Finding(
                check="overlay-lost",
                what=f"the overlay of instant session {session.id} is gone, or is another file now",
                where=printable(str(one.overlay)),
                why="What its guest wrote was in it. Nothing makes a new one.",
                mend=f"Bring that very file back. To give it up: phd instant discard {session.id}",
            )
        if not lost and (trouble := server_trouble(session)):
            yield Finding(
                check="session-server",
                what=f"instant session {session.id}: {trouble}",
                where=disk,
                why="Its guest stops at the first block that it reads from the backup; what it wrote is whole.",
                mend=f"systemctl start phd-serve@{session.id}.service; or the 'phd instant start' that began it, once more.",
            )


def _has_inode(path: Path, inode: int) -> bool:
    try:
        return os.lstat(path).st_ino == inode
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it cannot be looked at now


def _read(path: Path) -> InstantSession | None:
    try:
        return read_session(path)
    except OSError:
        return None


def _old(session: InstantSession, now: float) -> Finding:
    disk = printable(session.disks[0].path)
    return Finding(
        check="session-open",
        what=f"an instant session ({session.id}) began {int((now - session.began) // _DAY)} days ago and is {session.state.value}",
        where=disk,
        why="The guest reads through the backup, and what it wrote is in an overlay: no other restore may use that disk meanwhile.",
        mend=f"phd instant status {disk}; then 'phd instant finish {disk}' when its disks are restored.",
    )


def _unreadable(path: Path) -> Finding:
    return Finding(
        check="session-unreadable",
        what="the record of an instant session cannot be read by this version of phd",
        where=printable(str(path)),
        why="No restore uses that disk while it is there, and nothing can finish the session.",
        mend="Do not delete it. Finish the session with the version that began it, or bring the record back from a copy.",
    )


def _alone(path: Path) -> Finding:
    return Finding(
        check="overlay-without-record",
        what="the overlay of an instant session, and no record of that session lies beside a disk here",
        where=printable(str(path)),
        why="It may be the only place where the work of a guest is; no restore uses that disk while it is there.",
        mend="Do not delete it. Bring the *.phd-session file back beside the first disk of the VM; qemu-img info shows what it is.",
    )
