"""Who may read a file of a job: the daemon, the job's submitter, and the group that may list the spool. Nobody else.

The daemon of the shipped unit is uid 0 without a capability: it can give a file to no other user and to no other group. But the
owner of a file may always set its access list, so the submitter is named there, and can `tail -f` the log of his own job.
The group of the file (in a setgid spool that of the spool) reads if it may list the spool; the group of a drop box (3730), which
may not, reads nothing. Further groups may be named in the default access list of the spool (setfacl -m d:g:operators:r).

A file system without access lists: only the daemon and that group read, and the daemon's log says so once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import struct
from collections.abc import Iterator

_log = logging.getLogger(__name__)
_NAME = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNERS_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_READ, _WRITE = 4, 2
_NOBODY = 0xFFFFFFFF
_WITHOUT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
_said: set[str] = set()


def let_read(fd: int, folder: str | os.PathLike[str], *, uid: int | None) -> None:
    """Let user `uid` (None: nobody more) read an open file of ours that lies, or will lie, in the spool `folder`. Raises `OSError`.

    Past the umask, whatever it is.
    """
    ours, may = os.fstat(fd), _of_its_group(folder)
    group = _READ if may & _READ or not may & _WRITE else 0
    entries = [entry for entry in _entries(fd) if entry[0] == _GROUP]
    if uid is not None and uid != ours.st_uid:
        entries.append((_USER, _READ, uid))
    with contextlib.suppress(PermissionError):  # a file system without modes
        os.fchmod(fd, 0o600 | (group << 3))
    if entries and not _set(fd, [*_basic(group), *((tag, _READ, who) for tag, _, who in entries), (_MASK, _READ, _NOBODY)]):
        _say_once(os.fspath(folder))


def named_readers(fd: int) -> frozenset[int]:
    """The users that the access list of an open file names."""
    return frozenset(who for tag, may, who in _entries(fd) if tag == _USER and may & _READ)


def copy_readers(source: int, to: int) -> None:
    """Give one open file the access list of another one, if that has one. Raises `OSError`."""
    with contextlib.suppress(OSError):
        os.setxattr(to, _NAME, os.getxattr(source, _NAME))


def _of_its_group(folder: str | os.PathLike[str]) -> int:
    """What the group of the spool may do in it. With an access list the mode says only what all groups together may."""
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
    whole = len(data) >= len(_VERSION) and (len(data) - len(_VERSION)) % _ENTRY.size == 0
    return list(_ENTRY.iter_unpack(data[len(_VERSION) :])) if whole else []


def _set(fd: int, entries: list[tuple[int, int, int]]) -> bool:
    """False where there are no access lists. The kernel wants them sorted."""
    data = _VERSION + b"".join(_ENTRY.pack(*entry) for entry in sorted(entries, key=lambda entry: (entry[0], entry[2])))
    try:
        os.setxattr(fd, _NAME, data)
    except OSError as error:
        if error.errno not in _WITHOUT:
            raise
        return False
    return True


def _say_once(folder: str) -> None:
    if folder not in _said:
        _said.add(folder)
        why = "its file system takes no access lists: submitters cannot read the logs of their jobs"
        _log.warning("the spool is read by its owner alone", extra={"spool": folder, "why": why})
