"""Logs and status files that an earlier version made for everybody to read: closed when the daemon starts."""

from __future__ import annotations

import contextlib
import os

from phd_daemon.spool.in_the_way import is_own
from phd_daemon.spool.layout import Spool, side_file
from phd_daemon.spool.readers import let_read
from phd_daemon.spool.record import JobRecord, read_record

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = 0o007


def close_to_others(spool: Spool) -> None:
    """Leave them to their submitters, where those are known, and to the spool's group. Raises `OSError` with the folder gone."""
    for name in os.listdir(spool.folder):
        stem = side_file(name)
        if stem is not None:
            with contextlib.suppress(OSError):
                _close(spool, name, stem)


def _close(spool: Spool, name: str, stem: str) -> None:
    fd = os.open(spool.folder / name, _READ)
    try:
        found = os.fstat(fd)
        if is_own(found) and found.st_mode & _OTHERS:
            record = read_record(spool.record(stem))
            let_read(fd, spool.folder, uid=record.uid if isinstance(record, JobRecord) else None)
    finally:
        os.close(fd)
