"""The door: one waiting file is opened with care, read, judged, and accepted or refused.

Opened without following links and without blocking, a regular file with one name, the very file `lstat` saw, no
writer at it, at most 64 KiB. The submitter is the owner of the open file, as the kernel tells it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.spool.control_file import MAX_BYTES, ControlFile
from phd_daemon.spool.which_file import which_file
from restore_core.disk.identity import Identity
from restore_core.errors import BadControlFile, PhdError

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = "Correct that and drop the file again."

Judge = Callable[[bytes, str], ControlFile]
"""Text and submitter -> what is asked; raises `PhdError` for what is not allowed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The file that came to the door. `ctime_ns` is its place in the queue."""

    identity: Identity
    size: int
    mtime_ns: int
    ctime_ns: int
    uid: int
    submitter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A complete and allowed control file, with the copy of its text."""

    seen: Seen
    text: bytes
    control: ControlFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Never a job as it stands; `error` says why and what to do."""

    seen: Seen
    error: PhdError


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """Gone, being replaced, or still open for writing somewhere: look again later."""

    why: str


def examine(path: Path, *, judge: Judge, submitters: Collection[str]) -> Accepted | Refused | NotYet:
    """Open, check, read and judge one file. Raises `OSError` only for what may heal (EIO, EMFILE)."""
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return NotYet(why="gone")
    if stat.S_ISLNK(before.st_mode):
        remedy = "Put the file itself there: a copy, not a link to it."
        return Refused(seen=_seen_unopened(before), error=BadControlFile("this is a symbolic link", remedy=remedy))
    if not stat.S_ISREG(before.st_mode):
        return NotYet(why="this is no file")
    try:
        fd = os.open(path, _OPEN)
    except PermissionError:
        return Refused(seen=_seen_unopened(before), error=_unreadable())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return NotYet(why="replaced while it was opened")
        raise
    try:
        return _examine_open(fd, before, judge, submitters)
    finally:
        os.close(fd)


def _examine_open(fd: int, before: os.stat_result, judge: Judge, submitters: Collection[str]) -> Accepted | Refused | NotYet:
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino, found.st_size) != (before.st_dev, before.st_ino, before.st_size):
        return NotYet(why="replaced while it was opened")
    if has_writer(fd):
        return NotYet(why="still open for writing")
    seen = _seen(found, which_file(fd))
    try:
        _refuse_bad_file(found)
        _refuse_stranger(seen, submitters)
        text = os.pread(fd, MAX_BYTES + 1, 0)
        if len(text) != found.st_size:
            return NotYet(why="still being written")
        return Accepted(seen=seen, text=text, control=judge(text, seen.submitter))
    except PhdError as error:
        return Refused(seen=seen, error=error)


def has_writer(fd: int) -> bool:
    """Somebody has the file open for writing. A read lease is refused then; False where we may not ask.

    The lease is given back at once; a writer that comes in between makes the kernel send SIGIO, which the daemon
    ignores.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def user_name(uid: int) -> str:
    """The user's name, or the number of one the system does not know."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def may_submit(uid: int, submitters: Collection[str]) -> bool:
    """One of the users or members of `@group`; the user the daemon runs as always may."""
    if uid == os.geteuid():
        return True
    name = user_name(uid)
    if name in submitters or str(uid) in submitters:
        return True
    groups = {entry[1:] for entry in submitters if entry.startswith("@")}
    return bool(groups & groups_of(name)) if groups else False


def groups_of(user: str) -> set[str]:
    """The names of all groups of a user; none for a user the system does not know."""
    names = set()
    with contextlib.suppress(KeyError):
        for number in os.getgrouplist(user, pwd.getpwnam(user).pw_gid):
            with contextlib.suppress(KeyError):
                names.add(grp.getgrgid(number).gr_name)
    return names


def _refuse_bad_file(found: os.stat_result) -> None:
    if found.st_nlink > 1:
        # Through a second name, whoever owns the file could be made to ask for what he never asked.
        raise BadControlFile(f"the file has {found.st_nlink} names (hard links)", remedy="Put a copy there, not a link.")
    if found.st_size > MAX_BYTES:
        raise BadControlFile(f"{found.st_size} bytes: larger than {MAX_BYTES}, that is not a control file", remedy=_AGAIN)
    if found.st_size == 0:
        raise BadControlFile("the file is empty, and has been for a minute", remedy="Write the file, or use 'phd submit'.")


def _refuse_stranger(seen: Seen, submitters: Collection[str]) -> None:
    if not may_submit(seen.uid, submitters):
        raise BadControlFile(
            f"the file belongs to {seen.submitter}, who may not submit jobs here",
            remedy="Add the user, or @group, to queue.submitters in phd.toml.",
        )


def _unreadable() -> PhdError:
    return BadControlFile("the daemon may not read this file", remedy="Make it readable (chmod 0644) and rename it back to .job.")


def _seen(found: os.stat_result, identity: Identity) -> Seen:
    return Seen(
        identity=identity,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        uid=found.st_uid,
        submitter=user_name(found.st_uid),
    )


def _seen_unopened(found: os.stat_result) -> Seen:
    return _seen(found, Identity(inode=found.st_ino, generation=0))
