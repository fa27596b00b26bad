"""One daemon and no more: a kernel lock on an open file, with the pid in it for people.

`flock` belongs to the open file: it lives through the double fork of `--detach`, dies with the process, and leaves
nothing stale behind. The pid in the file is never believed.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Self

from restore_core import durable
from restore_core.errors import TryAgainLater
from restore_core.naming import printable

_PATIENCE = 0.5


class PidLock:
    """Taken by `acquire`, kept until the process ends. As a context it writes the pid, which is how python-daemon uses it."""

    def __init__(self, path: Path, *, temporary: bool = False) -> None:
        """With `temporary` the file goes when the context ends: people take its being there for a daemon that runs."""
        self.path = path
        self._temporary = temporary
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock. Raises `TryAgainLater` when another daemon holds it, `OSError` when there can be no such file."""
        fd = self._open()
        # `holder` borrows the lock for an instant; a daemon keeps it for life.
        patience = time.monotonic() + _PATIENCE
        while not _locked(fd, fcntl.LOCK_EX) or not self._is(fd):
            if not self._is(fd):  # a daemon that ended meanwhile has removed it
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
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def _is(self, fd: int) -> bool:
        """Whether the open file is the one that has the name now."""
        try:
            there, ours = os.lstat(self.path), os.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def fileno(self) -> int:
        """The open file that is the lock; it must stay open."""
        return self._fd

    def release(self) -> None:
        """Let go of the lock."""
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
    """The pid of the daemon that holds the lock, 0 if it is held but the pid is unreadable, None if nobody holds it.

    Raises `PermissionError` for those who may not look.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _locked(fd, fcntl.LOCK_SH) else _pid_in(fd)
    finally:
        os.close(fd)


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
