"""A job's life is a kernel lock: taken by the daemon, inherited by the worker, gone when the worker is gone.

`flock` belongs to the open file, not to a process: handed down to the worker and closed here, it lives in the worker
alone, through `kill -9` of the daemon, and cannot outlive it. A pid says nothing: it may be a zombie or somebody else.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def take_lock(path: Path) -> int | None:
    """An open file that holds the lock, None if another process holds it. Raises `OSError` (EMFILE, ...)."""
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
    """Somebody holds it. Only the daemon may ask: asking takes the lock for a moment."""
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
