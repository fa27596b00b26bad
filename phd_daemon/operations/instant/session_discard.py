"""Ends a session and throws away what its guest wrote. The caller has asked a person twice.

    session locked > nobody has an overlay open > record `discarding` > overlays removed > server stopped > record removed

No disk is touched, and none is held: the restore's job may be at work on one, and goes on as it began.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.installation import spool_of
from phd_daemon.operations.instant.session_disks import refuse_used, session_lock
from phd_daemon.operations.instant.session_server import stop_server
from phd_daemon.spool.session_hints import forget
from restore_core import durable
from restore_core.disk.session_record import InstantSession, SessionState
from restore_core.errors import UsageError, from_os_error
from restore_core.naming import printable


def discard_session(config: Config, session: InstantSession) -> None:
    """Throws the overlays of a session away. May be repeated after a crash.

    Raises `UsageError` for a session that is being finished: its disks hold a part of what the guest wrote. Raises
    `DestinationInUse` while anybody has an overlay open.
    """
    with session_lock(session) as now:
        if now.state not in (SessionState.STARTING, SessionState.SERVING, SessionState.DISCARDING):
            raise UsageError(
                f"session {now.id} is {now.state.value}: the disk holds a part of what the guest wrote already",
                remedy=f"Go on with it: phd instant finish {now.id}",
            )
        with contextlib.ExitStack() as stack:
            paths = [disk.overlay for disk in now.disks if os.path.lexists(disk.overlay)]
            for path in paths:
                _refuse_if_used(path, stack)
            if now.state is not SessionState.DISCARDING:
                _write(now.to(SessionState.DISCARDING))
        try:
            for path in paths:
                durable.remove(path)
            stop_server(config, now)
            durable.remove(now.record)
        except OSError as error:
            raise from_os_error(error, doing="removing the overlay", where=printable(str(now.record.parent))) from error
    with contextlib.suppress(OSError):
        forget(spool_of(config), now.id)


def _refuse_if_used(path: Path, stack: contextlib.ExitStack) -> None:
    where = printable(str(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, doing="looking who uses the overlay", where=where) from error
    stack.callback(os.close, fd)
    refuse_used(fd, where)


def _write(session: InstantSession) -> None:
    try:
        durable.write_whole(session.record, session.to_json())
    except OSError as error:
        raise from_os_error(error, doing="writing the record", where=printable(str(session.record))) from error
