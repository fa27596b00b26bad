"""Tells who uses a disk now, by kernel locks and lock files, of the descriptor and of its flat file.

    kernel locks   qemu keeps "open file description" locks; `F_OFD_GETLK` sees them, `flock` does not
                   (F17 in docs/faults.md). The question takes no lock, so it cannot disturb a VM that starts.
    lock files     `NAME.lck`, a file or a folder (VMware), and `.lck-ID` (ESX on NFS, where ID is the number of the
                   locked file in hex). A crash leaves them, too, so they prove nothing: they are reported with age and
                   owner, and a person has to remove them.

Not seen: a VM on another host that leaves no lock file, and a program that opened the disk without a lock.
The answer holds for this moment only.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import pwd
import re
import stat as stat_module
import time
from pathlib import Path

from restore_core.disk.alone import FLOCK
from restore_core.disk.vmdk import descriptor_name_for, flat_name_for, is_flat_name, is_vmdk_name
from restore_core.errors import DestinationInUse, from_os_error
from restore_core.naming import printable

_NFS_LOCK = re.compile(r"\.lck-([0-9a-f]{2,16})\Z")
_READABLE = re.compile(rb"[ -~]{3,}")


def holder_of(path: Path | str, *, dir_fd: int | None = None) -> str | None:
    """Returns who uses the disk at `path`, in words; None if nobody is seen. A missing disk can still have a lock file.

    With `dir_fd` the last part of `path` is looked up in that open folder and links are not followed. Raises the error
    of `from_os_error` if the disk cannot be opened to ask.
    """
    if dir_fd is not None:
        return _holder(os.path.basename(path), dir_fd, str(path))
    real = os.path.realpath(path)
    try:
        folder_fd = os.open(os.path.dirname(real), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, doing="looking for locks", where=printable(str(path))) from error
    try:
        return _holder(os.path.basename(real), folder_fd, str(path))
    finally:
        os.close(folder_fd)


def refuse_if_in_use(path: Path | str, *, dir_fd: int | None = None) -> None:
    """Raises `DestinationInUse` if somebody uses the disk at `path`; `dir_fd` as in `holder_of`."""
    holder = holder_of(path, dir_fd=dir_fd)
    if holder is not None:
        raise _in_use(printable(str(path)), holder)


def _in_use(where: str, holder: str) -> DestinationInUse:
    return DestinationInUse(
        f"{where}: in use: {holder}",
        remedy="Power off the VM that uses this disk. If no VM does, remove the lock that is named here, by hand.",
    )


def refuse_lock_files(name: str, folder_fd: int, where: str) -> None:
    """Raises `DestinationInUse` for a `.lck` beside the disk `name`: the only sign of a VM on another host."""
    try:
        with os.scandir(folder_fd) as entries:
            inodes = {entry.inode() for entry in entries if entry.name in _both_names(name)}
        found = _lock_file(_both_names(name), set(inodes), folder_fd)
    except OSError as error:
        raise from_os_error(error, doing="looking for locks", where=where) from error
    if found is not None:
        raise _in_use(where, found)


def _holder(name: str, folder_fd: int, where: str) -> str | None:
    names = _both_names(name)
    try:
        inodes = set()
        for each in names:
            inode, holder = _ask_kernel(each, folder_fd)
            if holder:
                return holder
            inodes.add(inode)
        return _lock_file(names, inodes - {None}, folder_fd)
    except OSError as error:
        raise from_os_error(error, doing="looking for locks", where=printable(where)) from error


def _both_names(name: str) -> tuple[str, ...]:
    if is_flat_name(name):
        return name, descriptor_name_for(name)
    return (flat_name_for(name), name) if is_vmdk_name(name) else (name,)


def _ask_kernel(name: str, folder_fd: int) -> tuple[int | None, str | None]:
    """Returns the inode and holder of one file: the owner of a lock for which an exclusive lock on the file would be refused."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return None, None
    try:
        facts = os.fstat(fd)
        question = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question)
        except OSError:
            return facts.st_ino, None  # a file system without such locks (NFS without lockd): nobody can hold one
        kind, _whence, _start, _length, pid = FLOCK.unpack(answer)
        if kind == fcntl.F_UNLCK:
            return facts.st_ino, None
        who = _process(pid) if pid > 0 else _process_that_locks(facts)
        return facts.st_ino, f"{printable(name)} is locked by {who or 'another program (qemu keeps such locks)'}"
    finally:
        os.close(fd)


def _process(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="surrogateescape") as file:
        return f"{printable(file.read().strip())} (process {pid})"
    return f"process {pid}"


def _process_that_locks(facts: os.stat_result) -> str | None:
    """Returns the process whose open file has the lock. The kernel's answer has no process id for locks of this kind."""
    for folder in glob.iglob("/proc/[0-9]*/fd"):
        with contextlib.suppress(OSError):  # another user's process, or one that ended
            for fd in os.listdir(folder):
                if _has_lock(folder, fd, facts):
                    return _process(int(folder.split("/")[2]))
    return None


def _has_lock(folder: str, fd: str, facts: os.stat_result) -> bool:
    """Returns whether an open file is this one and has a lock.

    The kernel is asked for the lock first. A question about the file goes to its file system, and hangs where that one does
    not answer (NFS, FUSE), though the disk has nothing to do with it.
    """
    try:
        with open(f"{folder}info/{fd}", encoding="utf-8", errors="replace") as file:
            return "lock:" in file.read() and os.path.samestat(os.stat(f"{folder}/{fd}"), facts)
    except OSError:
        return False


def _lock_file(names: tuple[str, ...], inodes: set[int | None], folder_fd: int) -> str | None:
    with os.scandir(folder_fd) as entries:
        found = {entry.name: entry.inode() for entry in entries}
    for name in names:
        if f"{name}.lck" in found:
            return _describe(f"{name}.lck", folder_fd)
    others = set(found.values()) - inodes
    for name in sorted(found):
        match = _NFS_LOCK.match(name)
        # A number of another file in this folder is a lock of that file. A number of no file here may mean this disk: refuse.
        if match and inodes and not (_numbers(match[1]) & others):
            return _describe(name, folder_fd)
    return None


def _numbers(digits: str) -> set[int]:
    """Returns the inode numbers that a `.lck-ID` may mean: ESX writes the lowest byte first."""
    data = bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0"))
    return {int.from_bytes(data, "little"), int.from_bytes(data, "big")}


def _describe(name: str, folder_fd: int) -> str:
    """Returns a lock file in words: what it is, whose, how old, and the readable part of its content."""
    facts = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    folder = stat_module.S_ISDIR(facts.st_mode)
    text = f"{printable(name)} ({'a lock folder' if folder else 'a lock file'} of {_user(facts.st_uid)}"
    text += f", last touched {_age(time.time() - facts.st_mtime)} ago"
    says = _contents(name, folder_fd, folder=folder)
    return f"{text}, it says: {says})" if says else f"{text})"


def _contents(name: str, folder_fd: int, *, folder: bool) -> str:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder_fd)
    except OSError:
        return ""  # unreadable or gone: that it exists is enough
    try:
        if folder:
            inside = sorted(os.listdir(fd))[:1]
            return _contents(inside[0], fd, folder=False) if inside else ""
        if not stat_module.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return " ".join(piece.decode("ascii").strip() for piece in _READABLE.findall(os.pread(fd, 512, 0)))[:120]
    except OSError:
        return ""
    finally:
        os.close(fd)


def _user(uid: int) -> str:
    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return f"user {uid}"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} seconds"
