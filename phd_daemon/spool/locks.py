"""A job's life is a kernel lock: taken by the daemon, inherited by the worker, gone when the worker is gone.

`flock` belongs to the open file, not to a process: handed down to the worker and closed here, it lives in the worker
alone, through `kill -9` of the daemon, and cannot outlive it. A pid says nothing: it may be a zombie or somebody else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from phd_daemon.spool.in_the_way import put_aside

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def take_lock(path: Path) -> int | None:
    """An open file that holds the lock, None if another process holds it. Raises `OSError` (EMFILE, ...)."""
    if not _may_be_a_lock(path):
        put_aside(path)
    fd = os.open(path, _FLAGS | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock_is_held(path: Path) -> bool:
    """Somebody holds it. Only the daemon may ask: asking takes the lock for a moment. Raises `OSError`."""
    if not _may_be_a_lock(path):  # whether a worker still holds the one that was there, nobody can say
        raise OSError(errno.EINVAL, "is no lock file: its job waits until it is removed", os.fspath(path))
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _may_be_a_lock(path: Path) -> bool:
    """A file, or nothing yet. A folder, a link or a FIFO is no lock of ours."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True
