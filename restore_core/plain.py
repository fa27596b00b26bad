"""Files that are read whole, and only if they are files: who opens a FIFO waits until somebody writes into it, perhaps for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def read_plain(path: str | Path, most: int = -1) -> bytes:
    """The bytes of a regular file, `most` of them. A link is followed. Raises `OSError`, also for a FIFO, a device, a folder."""
    with open_plain(path) as file:
        return file.read(most)


def open_plain(path: str | Path) -> BinaryIO:
    """The same file, open for reading. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        refuse_special(fd, path)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def refuse_special(fd: int, path: str | Path) -> None:
    """Raise `OSError` if the open file is no regular one."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "is no regular file: remove it, or rename it", os.fspath(path))
