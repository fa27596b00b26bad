"""The daemon's own files beside the control files (logs, status files, locks): safe to open and to write in a drop box.

In a drop box every member of its group may create a folder, a FIFO or a link called `crm.status` before the daemon needs that
name. Opening a FIFO would block, and following a link would show another file, so `open_unlinked` and `open_own` refuse both.
Whatever has a name that the daemon needs is renamed in the same folder: `crm.status.aside-3f9a01bc`. Uid 0 without capabilities
owns the box, so it may rename what lies in it; it cannot move another user's folder out of it, nor remove one that is not empty.
If even the rename is refused (a mount point, a file system that went read-only), a file or an empty folder is removed; otherwise
the caller gets the error: that job waits, with the reason in its log, and no other job is affected.

The daemon's file is exchanged with what has its name, so nobody can put another thing there in between.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from phd_daemon.spool.access import let_read, user_name
from restore_core import durable
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 4
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def open_unlinked(path: Path) -> BinaryIO:
    """Opens a regular file for reading. Raises `OSError`: ELOOP for a link, EPERM for anything else."""
    fd = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EPERM, "not a plain file", os.fspath(path))
    return os.fdopen(fd, "rb")


def open_own(path: Path) -> BinaryIO:
    """Opens a log or a status file for reading, only if the daemon has written it. Raises `OSError`.

    Such a file belongs to root, to the owner of the spool, or to the caller's user (a daemon that runs as another user).
    """
    file = open_unlinked(path)
    owner = os.fstat(file.fileno()).st_uid
    if owner not in (0, os.geteuid()) and owner != os.stat(path.parent).st_uid:
        file.close()
        raise OSError(errno.EPERM, f"belongs to user {owner}: not written by the daemon", os.fspath(path))
    return file


def temporary_name(folder: Path) -> Path:
    """Returns a new name for a file that is not complete yet. `purge` deletes it if this process is killed."""
    return folder / f".phd-{secrets.token_hex(8)}.tmp"


def write_own(path: Path, data: bytes, *, durable_now: bool, reader: int | None = None, private: bool = False) -> str:
    """Replaces the file and returns a sentence about what had its name, empty if nothing had. Raises `OSError`.

    `reader` is the user who may read it besides the daemon and the spool's group; with `private` only the daemon may.
    """
    made = None if private else functools.partial(let_read, folder=path.parent, uid=reader)
    if not _has_another_owner(path):
        try:
            durable.write_whole(path, data, durable=durable_now, made=made)
            return ""
        except IsADirectoryError:
            pass
    part = temporary_name(path.parent)
    try:
        durable.write_whole(part, data, durable=durable_now, made=made)
        return take_over(part, path)
    finally:
        durable.remove(part, durable=False)


def is_own(found: os.stat_result) -> bool:
    """Whether it is a regular file that the daemon's user or root has created."""
    return stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid())


def is_obstacle(found: os.stat_result) -> bool:
    """Whether it is neither a file nor a link and another user has created it. Such a thing is never a request."""
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)) and found.st_uid not in (0, os.geteuid())


def obstacle_at(path: Path) -> bool:
    """Whether an obstacle has this name; False if nothing has it. Raises `OSError`."""
    try:
        return is_obstacle(os.lstat(path))
    except FileNotFoundError:
        return False


def put_aside(path: Path, *, called: str = "") -> str:
    """Renames whatever has this name to `NAME.aside-…` and returns a sentence about it, empty if nothing had the name.

    `called` is the name it had before, if it has been exchanged already. Raises `OSError` if it can be neither renamed nor removed.
    """
    called = called or path.name
    for _ in range(_TRIES):
        aside = path.with_name(f"{called}.aside-{secrets.token_hex(4)}")
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return ""
        try:
            durable.move(path, aside)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return ""
        except OSError as error:
            if _removed(path):
                return _reported(called, found, f"it could not be renamed ({error.strerror}) and was removed")
            what = f"{_described(found)} has its name and can be neither renamed nor removed ({error.strerror}): remove it by hand"
            raise OSError(error.errno, what, os.fspath(path)) from error
        return _reported(called, found, f"it is called {printable(aside.name)} now")
    raise FileExistsError(errno.EEXIST, "no name is free to put it aside", os.fspath(path))


def take_over(part: Path, path: Path) -> str:
    """Renames our file `part` to `path`, puts aside whatever has that name, and returns a sentence about it. Raises `OSError`."""
    said = ""
    for _ in range(_TRIES):
        try:
            durable.move(part, path)
            return said
        except FileExistsError:
            pass
        try:
            durable.exchange(part, path)
        except FileNotFoundError:
            continue
        except OSError:  # the file system cannot do it, or this process may not
            said = put_aside(path) or said
        else:
            return put_aside(part, called=path.name)
    raise FileExistsError(errno.EEXIST, "somebody puts other things under its name again and again", os.fspath(path))


def _has_another_owner(path: Path) -> bool:
    try:
        return not is_own(os.lstat(path))
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rmdir(path)
        else:
            durable.remove(path)
    except OSError:
        return False
    return True


def _reported(called: str, found: os.stat_result, what: str) -> str:
    said = f"{printable(called)} was {_described(found)}: {what}"
    _log.warning("in the way", extra={"what": said})
    return said


def _described(found: os.stat_result) -> str:
    return f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'a file')} of user {printable(user_name(found.st_uid))}"
