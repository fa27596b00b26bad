"""Where the records of instant sessions are: `.state/.sessions/ID` holds the path of the record, which lies beside a disk.

Such a file is a hint: the record itself decides. It is written when a session begins, and anew when somebody sees the record; one
whose record is gone says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.spool.layout import Spool
from restore_core import durable
from restore_core.disk.session_record import RECORD_SUFFIX, SESSION_ID, InstantSession, read_session

_MOST = 1 << 16


def where_recorded(spool: Spool, session: str) -> Path | None:
    """Returns where the record of a session is, as the hint says; None if there is no hint."""
    try:
        text = os.fsdecode(durable.read_plain(spool.sessions / session, _MOST)) if SESSION_ID.fullmatch(session) else ""
    except OSError:
        return None
    path = Path(text.removesuffix("\n"))
    return path if path.is_absolute() and path.name.endswith(RECORD_SUFFIX) else None


def remember(spool: Spool, session: InstantSession) -> None:
    """Writes down where the record of a session is. Raises `OSError`."""
    spool.sessions.mkdir(mode=0o700, exist_ok=True)
    path, text = spool.sessions / session.id, os.fsencode(session.record) + b"\n"
    if where_recorded(spool, session.id) != session.record:
        durable.write_whole(path, text)
        owner = os.stat(spool.state_folder)
        if os.geteuid() == 0 != owner.st_uid:  # a daemon that does not run as root reads it, too
            for each in (spool.sessions, path):
                os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


def forget(spool: Spool, session: str) -> None:
    """Removes the hint of a session that is over, and the log of its server. Raises `OSError`."""
    for name in (session, f"{session}.log"):
        durable.remove(spool.sessions / name, durable=False)


def known_sessions(spool: Spool) -> Iterator[InstantSession]:
    """Yields the sessions whose records can be read, by their hints, the oldest first."""
    found = []
    names = sorted(os.listdir(spool.sessions)) if spool.sessions.is_dir() else []
    for name in names:
        where = where_recorded(spool, name)
        try:
            session = read_session(where) if where is not None else None
        except OSError:
            continue
        if session is not None and session.id == name:
            found.append(session)
    yield from sorted(found, key=lambda one: one.began)
