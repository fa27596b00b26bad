"""Proves that nobody else has a file open, and keeps QEMU from opening it for writing.

    lease        F_SETLEASE grants a write lease only if ours is the one open descriptor of the file and nothing maps it: whoever
                 reads it, writes it, maps it or has a loop device on it is seen, with locks or without. It is given back at once,
                 since a lease that is kept stalls whoever opens the file. Local file systems, own files (or CAP_LEASE) only
    image locks  QEMU marks what it does with an image by shared locks on single bytes: 100 + p "I use permission p", 200 + p "I
                 share it with nobody"; p is 0 read, 1 write, 2 write unchanged data, 3 resize. With 201 and 203 taken by us no
                 QEMU opens the image for writing; `qemu-img compare` may still read it

An open file description does not see its own locks, nor does the lease mind them. Not seen: a descriptor that was opened with
O_PATH; and, where there are no leases, a program without locks.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from restore_core.errors import DestinationInUse

# struct flock of a 64-bit Linux: l_type, l_whence, padding, l_start, l_len, l_pid, padding.
FLOCK = struct.Struct("hhqqi4x")
_F_SETSIG = 10
_SIGURG = 23
"""Ignored unless somebody asks for it. (The library has nothing else to do with signals.)"""
_NOT_SHARED_WRITE, _NOT_SHARED_RESIZE = 201, 203
_FIRST_BYTE, _LAST_BYTE = 100, 204
_NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)


class Alone(enum.Enum):
    """Whether ours is the only open descriptor of a file."""

    YES = "nobody else has it open"
    NO = "somebody has it open"
    UNKNOWN = "this file system, or the owner of the file, allows no lease: only locks and times of change can be checked"


def alone(fd: int) -> Alone:
    """Ask for a write lease on the file behind `fd`, and give it back. The process must have no other descriptor of that file."""
    with leased(fd) as lone:
        return lone


@contextlib.contextmanager
def leased(fd: int) -> Iterator[Alone]:
    """Keep the lease for a moment, well under a second: whoever opens the file waits until it is given back.

    Only between two questions inside it is sure that nobody opened the file, wrote it and closed it again.
    """
    lone = _ask(fd)
    try:
        yield lone
    finally:
        if lone is Alone.YES:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def ctime_of(fd: int, lone: Alone) -> int:
    """The ctime of a file for which a lease is kept since before it got its name; 0 if somebody had it open all the same."""
    return 0 if lone is Alone.NO else os.fstat(fd).st_ctime_ns


def lock_image(fd: int, where: str) -> None:
    """Keep QEMU from opening the image behind `fd` for writing, as long as `fd` is open. Raises `DestinationInUse`, `OSError`."""
    try:
        for byte in (_NOT_SHARED_WRITE, _NOT_SHARED_RESIZE):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    except BlockingIOError as error:
        unlock_image(fd)
        raise in_use(where, "another program has locked it") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise  # those three: a file system without such locks, on which nobody can hold one
    if image_is_locked(fd):
        unlock_image(fd)
        raise in_use(where, "a program that keeps QEMU's image locks has it open")


def _ask(fd: int) -> Alone:
    try:
        # Whoever opens the file meanwhile makes the kernel send a signal; SIGIO, the usual one, would end this process.
        fcntl.fcntl(fd, _F_SETSIG, _SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return Alone.NO if error.errno in (errno.EAGAIN, errno.EBUSY) else Alone.UNKNOWN
    return Alone.YES


def unlock_image(fd: int) -> None:
    """Let QEMU open the image again."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, _FIRST_BYTE, _LAST_BYTE - _FIRST_BYTE, 0))


def image_is_locked(fd: int) -> bool:
    """Whether anybody else has a lock on the file; a question takes no lock and disturbs nobody who starts."""
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return int(FLOCK.unpack(answer)[0]) != fcntl.F_UNLCK


def in_use(where: str, why: str) -> DestinationInUse:
    """The refusal of a disk that somebody has open."""
    return DestinationInUse(f"{where}: in use: {why}", remedy="Power off the VM that uses this disk; a queued job is tried again.")
