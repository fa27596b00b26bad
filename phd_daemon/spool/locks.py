"""Kernel locks: one for each job, held as long as its worker lives, and one for the daemon itself.

`flock` belongs to the open file, not to a process. The daemon takes a job's lock, the worker inherits it, and the daemon closes
its own copy: so the lock survives `kill -9` of the daemon and ends with the worker. A pid proves nothing: it may be a zombie's, or
another program's by now. The lock of the daemon survives the double fork of `--detach` in the same way; the pid in its file is for
people only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Self

from phd_daemon.spool.own_files import put_aside
from restore_core import durable
from restore_core.errors import TryAgainLater
from restore_core.naming import printable

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_PATIENCE = 0.5


def take_lock(path: Path) -> int | None:
    """Returns an open file that holds the lock, None if another process holds it. Raises `OSError` (EMFILE, ...)."""
    if not _may_be_a_lock(path):
        put_aside(path)
    fd = os.open(path, _FLAGS | os.O_CREAT, 0o600)
    try:
        if _locked(fd, fcntl.LOCK_EX):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def lock_is_held(path: Path) -> bool:
    """Whether a process holds the lock. Only the daemon may ask: the question takes the lock for a moment. Raises `OSError`."""
    if not _may_be_a_lock(path):  # whether a worker still holds the lock file that was there, nobody can tell
        raise OSError(errno.EINVAL, "is no lock file: its job waits until it is removed", os.fspath(path))
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        return False
    try:
        return not _locked(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


class PidLock:
    """The lock of the one daemon of a spool: `acquire` takes it, and it is kept until the process ends.

    As a context manager it writes the pid into the file, which is how python-daemon uses it.
    """

    def __init__(self, path: Path, *, temporary: bool = False) -> None:
        """With `temporary` the file is deleted when the context ends: people take the file for a sign of a running daemon."""
        self.path = path
        self._temporary = temporary
        self._fd = -1

    def acquire(self) -> None:
        """Takes the lock. Raises `TryAgainLater` when another daemon holds it, `OSError` when the file cannot be created."""
        fd = self._open()
        # `holder` takes the lock for an instant; a daemon holds it all its life.
        patience = time.monotonic() + _PATIENCE
        while not _locked(fd, fcntl.LOCK_EX) or not self._is(fd):
            if not self._is(fd):  # a daemon that ended meanwhile has deleted the file
                os.close(fd)
                fd = self._open()
                continue
            if time.monotonic() > patience:
                pid = _pid_in(fd)
                os.close(fd)
                who = f"pid {pid}" if pid else "pid unknown"
                raise TryAgainLater(
                    f"already running, {who} ({printable(str(self.path))} is locked)",
                    remedy="One daemon serves one spool. Stop the other one first, or give this one a spool of its own.",
                )
            time.sleep(0.05)
        self._fd = fd

    def _open(self) -> int:
        return os.open(self.path, _FLAGS | os.O_CREAT, 0o644)

    def _is(self, fd: int) -> bool:
        """Whether the open file is the one that has the name now."""
        try:
            there, ours = os.lstat(self.path), os.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def fileno(self) -> int:
        """Returns the open file that holds the lock; it must stay open."""
        return self._fd

    def release(self) -> None:
        """Releases the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        durable.write_all(self._fd, f"{os.getpid()}\n".encode())
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            if self._temporary and self._is(self._fd):
                durable.remove(self.path, durable=False)
        self.release()


def holder(path: Path) -> int | None:
    """Returns the pid of the daemon that holds the lock, 0 if the pid cannot be read, None if no daemon holds it.

    Raises `PermissionError` for users who may not look.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _locked(fd, fcntl.LOCK_SH) else _pid_in(fd)
    finally:
        os.close(fd)


def _may_be_a_lock(path: Path) -> bool:
    """Whether it is a regular file, or does not exist yet. A folder, a link or a FIFO is no lock of ours."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
