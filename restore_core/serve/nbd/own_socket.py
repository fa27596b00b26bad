"""The Unix socket of a server: mode 0600, in a folder that only its owner may change, and one server on it.

A socket that a dead server left behind is replaced. One on which somebody answers is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from restore_core.errors import DestinationError, DestinationInUse, UsageError, from_os_error
from restore_core.naming import printable

LONGEST_PATH = 107
"""Bytes in the path of a Unix socket."""
_WAITING_CLIENTS = 16
_ASK_SECONDS = 5.0


@contextlib.contextmanager
def own_socket(path: Path) -> Iterator[socket.socket]:
    """Yields a listening socket at `path`, and deletes it at the end. Its folder is made, with mode 0700, if it is not there.

    Raises `UsageError` for a path that no socket can have, `DestinationInUse` if a server answers there, `DestinationError` if
    something else is there, or others could put their own socket in its place.
    """
    where = printable(str(path))
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise UsageError(
            f"{where}: the path of a socket has {LONGEST_PATH} bytes at most", remedy="Name a shorter one with --sock."
        )
    try:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700, parents=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, doing="making the socket's folder", where=where) from error
    try:
        with _listening(path, folder, where) as listening:
            mine = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_ino
            try:
                yield listening
            finally:
                with contextlib.suppress(OSError):
                    if os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_ino == mine:
                        os.unlink(path.name, dir_fd=folder)
    finally:
        os.close(folder)


def _listening(path: Path, folder: int, where: str) -> socket.socket:
    _refuse_open_folder(os.fstat(folder), where)
    listening = socket.socket(socket.AF_UNIX)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two servers that begin at the same moment, one finds the other
        try:
            _clear_way(path, folder, where)
            earlier = os.umask(0o177)
            try:
                listening.bind(str(path))
            finally:
                os.umask(earlier)
            listening.listen(_WAITING_CLIENTS)
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)
    except OSError as error:
        listening.close()
        raise from_os_error(error, doing="listening", where=where) from error
    except BaseException:
        listening.close()
        raise
    return listening


def _refuse_open_folder(facts: os.stat_result, where: str) -> None:
    others_write = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
    if facts.st_uid not in (os.geteuid(), 0) or others_write:
        raise DestinationError(
            f"{where}: others may change the folder of this socket, and put their own in its place",
            remedy="Use a folder of yours with mode 0700.",
        )


def _clear_way(path: Path, folder: int, where: str) -> None:
    """Deletes the socket of a server that is dead."""
    try:
        facts = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise DestinationError(f"{where}: a file is there, which is no socket", remedy="Name another path with --sock.")
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_ASK_SECONDS)
        try:
            asking.connect(str(path))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                os.unlink(path.name, dir_fd=folder)
                return
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT) and not isinstance(error, TimeoutError):
                raise
    raise DestinationInUse(
        f"{where}: another server answers at this socket", remedy="Use that one, or name another path with --sock."
    )
