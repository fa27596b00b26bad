"""Logs and status files as they are read: in a drop box anybody may have put anything under their names.

A fifo would stop whoever opens it, for ever; a link would show another file.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def open_plain(path: Path) -> BinaryIO:
    """The file, for reading, if it is a plain one. Raises `OSError`: ELOOP for a link, EPERM for any other thing."""
    fd = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EPERM, "not a plain file", os.fspath(path))
    return os.fdopen(fd, "rb")


def open_own(path: Path) -> BinaryIO:
    """The same for a log or a status: only one that the daemon has made is believed. Raises `OSError`.

    It belongs to root, to the owner of the spool, or to whoever asks (a daemon that runs as another user).
    """
    file = open_plain(path)
    owner = os.fstat(file.fileno()).st_uid
    if owner not in (0, os.geteuid()) and owner != os.stat(path.parent).st_uid:
        file.close()
        raise OSError(errno.EPERM, f"belongs to user {owner}: not written by the daemon", os.fspath(path))
    return file
