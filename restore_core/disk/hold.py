"""The hold of a disk: whoever writes a destination takes it before the first look and keeps it until the last act.

    D.phd-hold   a lock file beside the disk (flock, exclusive); the folder is locked shared meanwhile
    the folder   locked exclusively instead, where no lock file can be made: recovery must work on a full file system, too

The lock ends with the process. The file is never renamed; the holder removes it, still locked, when no unfinished file lies
beside the disk any more. So a lock counts only if the name still leads to the locked file. Between hosts a hold is as good as the
file server's locks. A script in a Delta takes the same locks. Before an act whose half could not be understood after a crash, the
holder writes into the lock file what it is going to do: that is the *record*.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat as stat_module
from dataclasses import dataclass, field
from typing import Any

from restore_core import durable
from restore_core.errors import DestinationError, DestinationHeld, DestinationMoved, PhdError, TryAgainLater, from_os_error
from restore_core.naming import printable

HOLD_SUFFIX = ".phd-hold"
_TRIES = 16
_MAX_RECORD = 64 << 20
"""A record holds a descriptor of up to 4 MiB; in JSON a byte takes up to 6, and there may be two records."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_FOLDER_LOCKS = {errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK}
"""Errors of a file server that locks no folders (NFS needs one that is open for writing). The lock file alone is used there."""


@dataclass(slots=True, kw_only=True)
class Hold(contextlib.AbstractContextManager["Hold"]):
    """The hold of one disk. `fd` is the lock file, -1 where only the folder is locked; `disk_name` is the name in the folder."""

    disk_name: str
    where: str
    folder_fd: int
    fd: int
    leave: bool = field(default=False)
    """Whether the lock file stays when the hold ends, because an unfinished file still lies beside the disk."""

    @property
    def name(self) -> str:
        """The name of the lock file."""
        return self.disk_name + HOLD_SUFFIX

    def record(self) -> dict[str, Any] | None:
        """Returns the last complete record, which a holder before us wrote. What an incomplete one says was not begun."""
        return _parsed(os.pread(self.fd, _MAX_RECORD, 0)) if self.fd >= 0 else None

    def write_record(self, record: dict[str, Any]) -> None:
        """Writes, durably, what is going to be done; until then the last record is valid. Raises the error of `from_os_error`."""
        text = json.dumps(record).encode()
        try:
            if self.fd < 0:
                raise OSError(errno.ENOSPC, "there was no room for the lock file of this disk")
            line = b"\n" + hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"
            durable.write_all_at(self.fd, line, os.fstat(self.fd).st_size)
            durable.sync_file(self.fd)
        except OSError as error:
            raise from_os_error(error, doing=f"writing {printable(self.name)}", where=self.where) from error

    def refuse_if_lost(self) -> None:
        """Raises `TryAgainLater` if somebody removed or replaced the lock file: another restore may have taken the disk, too."""
        if self.fd >= 0 and not _leads_to(self.folder_fd, self.name, self.fd):
            raise TryAgainLater(
                f"{self.where}: {printable(self.name)}, the lock file of this disk, was removed meanwhile; nothing was changed",
                remedy="Nobody should remove it while a restore runs. A queued job is tried again.",
            )

    def clear_record(self) -> None:
        """Removes the record: what it says is done, or was undone. Raises `OSError`."""
        if self.fd >= 0 and os.fstat(self.fd).st_size:
            os.ftruncate(self.fd, 0)
            durable.sync_file(self.fd)

    def release(self) -> None:
        """Ends the hold; removes the lock file first unless it must stay. May be repeated."""
        try:
            if self.fd >= 0 and not self.leave and self.record() is None and _leads_to(self.folder_fd, self.name, self.fd):
                with contextlib.suppress(OSError):
                    durable.remove(self.name, dir_fd=self.folder_fd, durable=False)
        finally:
            for fd in (self.fd, self.folder_fd):
                if fd >= 0:
                    with contextlib.suppress(OSError):  # what rclone could not upload; a record was synced
                        os.close(fd)
            self.fd = self.folder_fd = -1

    def __exit__(self, *_: object) -> None:
        self.release()


def take_hold(folder_fd: int, disk_name: str, where: str) -> Hold:
    """Takes the hold of the disk `disk_name` in an open folder; `where` is a printable path for messages.

    Raises `DestinationHeld` if somebody has it, `DestinationError` if its name is taken by something else, else the error of
    `from_os_error`.
    """
    try:
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError as error:
        raise from_os_error(error, doing="opening its folder", where=where) from error
    try:
        return Hold(disk_name=disk_name, where=where, folder_fd=own, fd=_locked(own, disk_name + HOLD_SUFFIX, where))
    except OSError as error:
        removed = os.fstat(own).st_nlink == 0
        os.close(own)
        if removed:
            raise folder_removed(where) from error
        raise _not_taken(error, where) from error
    except BaseException:
        os.close(own)
        raise


def _why_not_opened(error: OSError, name: str, where: str) -> PhdError | None:
    if error.errno in (errno.ELOOP, errno.ENXIO):
        return _in_the_way(name, where)
    return _not_taken(error, where) if error.errno == errno.EACCES else None


def _not_taken(error: OSError, where: str) -> PhdError:
    return from_os_error(error, doing="taking the lock of this disk", where=where)


def folder_removed(where: str) -> DestinationMoved:
    """Returns the error of a folder that another restore had made, and took away when it ended, after this one had opened it."""
    return DestinationMoved(
        f"{where}: its folder was removed while it was opened; nothing was written",
        remedy="Try again: it is made anew. A queued job is tried again.",
    )


def recorded(folder_fd: int, disk_name: str) -> dict[str, Any] | None:
    """Returns the record that the last holder of a disk left, without taking the hold; None where there is none to be read."""
    try:
        fd = os.open(disk_name + HOLD_SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError:
        return None
    try:
        return _parsed(os.pread(fd, _MAX_RECORD, 0))
    except OSError:
        return None
    finally:
        os.close(fd)


def holder(folder_fd: int, disk_name: str, where: str) -> PhdError | None:
    """Returns why the disk could not be held now, None if it could. Changes nothing."""
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        _lock_folder(own, fcntl.LOCK_SH, where)
    except PhdError as error:
        return error
    except OSError:
        return None
    finally:
        os.close(own)
    try:
        fd = os.open(disk_name + HOLD_SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _why_not_opened(error, disk_name + HOLD_SUFFIX, where)
    try:
        if not stat_module.S_ISREG(os.fstat(fd).st_mode):
            return _in_the_way(disk_name + HOLD_SUFFIX, where)
        if not os.access(disk_name + HOLD_SUFFIX, os.W_OK, dir_fd=folder_fd, effective_ids=True):
            return _not_taken(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), where)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _held(fd, where)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _locked(folder_fd: int, name: str, where: str) -> int:
    _lock_folder(folder_fd, fcntl.LOCK_SH, where)
    for _ in range(_TRIES):
        try:
            fd = _opened(folder_fd, name, where)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _lock_folder(folder_fd, fcntl.LOCK_EX, where)
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _leads_to(folder_fd, name, fd) and not _given_a_file_of_its_own(folder_fd, name, fd):
                return fd
        except BlockingIOError as error:
            refusal = _held(fd, where)
            os.close(fd)
            raise refusal from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder has just removed it
    raise _held(-1, where)


def _lock_folder(folder_fd: int, how: int, where: str) -> None:
    try:
        fcntl.flock(folder_fd, how | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held(folder_fd, where) from error
    except OSError as error:
        if how == fcntl.LOCK_EX or error.errno not in _NO_FOLDER_LOCKS:
            raise


def _opened(folder_fd: int, name: str, where: str) -> int:
    """Opens the lock file, and makes it if it is missing. Refuses links and FIFOs, which somebody else must have made."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _in_the_way(name, where) from error
        raise
    if not stat_module.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _in_the_way(name, where)
    return fd


def _given_a_file_of_its_own(folder_fd: int, name: str, fd: int) -> bool:
    """Gives the name a new file with the same record, if the lock file has a second name; returns whether it did.

    A copy of the folder by hard links (`cp -al`) gives it one. A file with two names may be anybody's: it is never written. The
    caller has it locked, so no holder is at work.
    """
    if os.fstat(fd).st_nlink < 2:
        return False
    data = os.pread(fd, _MAX_RECORD, 0)
    durable.write_whole(name, data if _parsed(data) is not None else b"", dir_fd=folder_fd)
    return True


def _parsed(data: bytes) -> dict[str, Any] | None:
    """Returns the last complete record in these bytes; None if there is none."""
    for line in reversed(data.splitlines()):
        digest, _, text = line.partition(b" ")
        if hashlib.sha256(text).hexdigest().encode() == digest:
            with contextlib.suppress(ValueError):
                found = json.loads(text)
                return found if isinstance(found, dict) else None
    return None


def _leads_to(folder_fd: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder_fd, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _in_the_way(name: str, where: str) -> DestinationError:
    return DestinationError(
        f"{where}: {printable(name)}, the name of this disk's lock file, is not a plain file",
        remedy=f"Somebody put it there. Remove {printable(name)} by hand.",
    )


def _held(fd: int, where: str) -> DestinationHeld:
    who = _who_locks(fd)
    return DestinationHeld(
        f"{where}: another restore, refresh or script is at work on this disk{f': {who}' if who else ''}",
        remedy="Wait for it, or cancel it. A queued job waits by itself and uses up no try.",
    )


def _who_locks(fd: int) -> str:
    """Returns the process that has a lock on this file, by /proc/locks; empty where that is not known."""
    with contextlib.suppress(OSError, ValueError):
        inode = os.fstat(fd).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            for line in file:
                words = line.split()
                if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
                    return f"process {words[4]}"
    return ""
