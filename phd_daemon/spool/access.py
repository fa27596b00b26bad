"""Users: who may submit a job, and who may read the files of a job.

A job's files are read by the daemon, by the job's submitter, and by the group that may list the spool; by nobody else.
The daemon of the shipped unit is uid 0 without a capability: it can give a file to no other user and to no other group. But the
owner of a file may always set its access list, so the submitter is named there and can `tail -f` the log of his own job.
The group of the file (in a setgid spool that of the spool) may read if it may list the spool. The group of a drop box (3730) may
not list it, so it reads nothing. Further groups can be named in the default access list of the spool (setfacl -m d:g:operators:r).

On a file system without access lists only the daemon and that group can read, and the daemon's log says so once.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import pwd
import stat
import struct
from collections.abc import Collection, Iterator

_log = logging.getLogger(__name__)
_NAME = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNERS_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_READ, _WRITE = 4, 2
_NOBODY = 0xFFFFFFFF
_NO_ACCESS_LISTS = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
_warned: set[str] = set()


def user_name(uid: int) -> str:
    """Returns the user's name, or the number of a user the system does not know."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def may_submit(uid: int, submitters: Collection[str]) -> bool:
    """Whether the user is named in `submitters` or is a member of an `@group` there. The daemon's own user always may submit."""
    if uid == os.geteuid():
        return True
    name = user_name(uid)
    if name in submitters or str(uid) in submitters:
        return True
    groups = {entry[1:] for entry in submitters if entry.startswith("@")}
    return bool(groups & groups_of(name)) if groups else False


def groups_of(user: str) -> set[str]:
    """Returns the names of all groups of a user; none for a user the system does not know."""
    names = set()
    with contextlib.suppress(KeyError):
        for number in os.getgrouplist(user, pwd.getpwnam(user).pw_gid):
            with contextlib.suppress(KeyError):
                names.add(grp.getgrgid(number).gr_name)
    return names


def let_read(fd: int, folder: str | os.PathLike[str], *, uid: int | None) -> None:
    """Lets user `uid` (None: no further user) read an open file of ours that is, or will be, in the spool `folder`.

    The umask has no effect on it. Raises `OSError`.
    """
    ours, may = os.fstat(fd), _group_permissions(folder)
    group = _READ if may & _READ or not may & _WRITE else 0
    entries = [entry for entry in _entries(fd) if entry[0] == _GROUP]
    if uid is not None and uid != ours.st_uid:
        entries.append((_USER, _READ, uid))
    with contextlib.suppress(PermissionError):  # a file system without modes
        os.fchmod(fd, 0o600 | (group << 3))
    if entries and not _set(fd, [*_basic(group), *((tag, _READ, who) for tag, _, who in entries), (_MASK, _READ, _NOBODY)]):
        _warn_once(os.fspath(folder))


def named_readers(fd: int) -> frozenset[int]:
    """Returns the users that the access list of an open file names as readers."""
    return frozenset(who for tag, may, who in _entries(fd) if tag == _USER and may & _READ)


def copy_readers(source: int, to: int) -> None:
    """Copies the access list of one open file, if it has one, to another. Does nothing where that is not allowed."""
    with contextlib.suppress(OSError):
        os.setxattr(to, _NAME, os.getxattr(source, _NAME))


def _group_permissions(folder: str | os.PathLike[str]) -> int:
    """Returns what the spool's group may do in it. With an access list, the mode says only what all groups together may do."""
    listed = [may for tag, may, _ in _entries(folder) if tag == _OWNERS_GROUP]
    return listed[0] if listed else stat.S_IMODE(os.stat(folder).st_mode) >> 3


def _basic(group: int) -> Iterator[tuple[int, int, int]]:
    yield (_OWNER, _READ | _WRITE, _NOBODY)
    yield (_OWNERS_GROUP, group, _NOBODY)
    yield (_OTHERS, 0, _NOBODY)


def _entries(file: int | str | os.PathLike[str]) -> list[tuple[int, int, int]]:
    try:
        data = os.getxattr(file, _NAME)
    except OSError:  # it has none, or the file system has none
        return []
    complete = len(data) >= len(_VERSION) and (len(data) - len(_VERSION)) % _ENTRY.size == 0
    return list(_ENTRY.iter_unpack(data[len(_VERSION) :])) if complete else []


def _set(fd: int, entries: list[tuple[int, int, int]]) -> bool:
    """Sets the access list, sorted as the kernel requires. Returns False where there are no access lists."""
    data = _VERSION + b"".join(_ENTRY.pack(*entry) for entry in sorted(entries, key=lambda entry: (entry[0], entry[2])))
    try:
        os.setxattr(fd, _NAME, data)
    except OSError as error:
        if error.errno not in _NO_ACCESS_LISTS:
            raise
        return False
    return True


def _warn_once(folder: str) -> None:
    if folder not in _warned:
        _warned.add(folder)
        why = "its file system takes no access lists: submitters cannot read the logs of their jobs"
        _log.warning("the spool is read by its owner alone", extra={"spool": folder, "why": why})
