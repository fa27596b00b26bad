"""What somebody has put under a name that is ours to use: it gets another name in the same folder, and that is said.

In a drop box anybody of its group may make a folder, a FIFO or a link called `crm.status` before we need that name. Uid 0
without capabilities owns the box, so it may rename what lies in it; but a folder of somebody else cannot be moved out of it, and
one that is not empty cannot be removed. So it is renamed where it lies: `crm.status.aside-3f9a01bc`.
Where even that is refused (a mount point, a file system that went read-only), what is no folder is removed, an empty folder too;
otherwise the caller gets the error: that job waits, with the reason in its log, and no other job waits with it.

Our own file is exchanged with what has its name, so that nobody can be quicker: one thing in the way costs one rename.
"""

from __future__ import annotations

import errno
import logging
import os
import pwd
import secrets
import stat
from pathlib import Path

from restore_core import durable
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_TRIES = 4
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def is_own(found: os.stat_result) -> bool:
    """A plain file that the daemon's user or root has made."""
    return stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid())


def is_strange(found: os.stat_result) -> bool:
    """No file and no link, and made by somebody else: never a request, only in the way."""
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)) and found.st_uid not in (0, os.geteuid())


def strange_at(path: Path) -> bool:
    """Whether such a thing has this name. Raises `OSError`, but not where there is nothing."""
    try:
        return is_strange(os.lstat(path))
    except FileNotFoundError:
        return False


def put_aside(path: Path, *, called: str = "") -> str:
    """Give another name to what lies there; a sentence that says so, empty where nothing lay there.

    `called` is the name it had, where it has none any more. Raises `OSError` when it cannot be moved.
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
                return _said(called, found, f"it could not be renamed ({error.strerror}) and was removed")
            what = f"{_what(found)} has its name and can be neither renamed nor removed ({error.strerror}): remove it by hand"
            raise OSError(error.errno, what, os.fspath(path)) from error
        return _said(called, found, f"it is called {printable(aside.name)} now")
    raise FileExistsError(errno.EEXIST, "no name is free to put it aside", os.fspath(path))


def take_over(part: Path, path: Path) -> str:
    """Give our file `part` the name `path`, whatever lies there; a sentence about that. Raises `OSError`."""
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


def _removed(path: Path) -> bool:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rmdir(path)
        else:
            durable.remove(path)
    except OSError:
        return False
    return True


def _said(called: str, found: os.stat_result, what: str) -> str:
    said = f"{printable(called)} was {_what(found)}: {what}"
    _log.warning("in the way", extra={"what": said})
    return said


def _what(found: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'a file')} of user {printable(owner)}"
