"""Proves that nobody else has a file open, and keeps QEMU from opening it for writing.

    lease        The kernel grants a write lease (F_SETLEASE) only if ours is the one open descriptor of the file and nothing maps
                 it. So it tells of everyone who reads, writes or maps the file or has a loop device on it, with locks or without.
                 The lease is given back at once, because whoever opens the file waits for it. Only on local file systems, and
                 only for the owner of the file (or with CAP_LEASE)
    image locks  QEMU marks what it does with an image by shared locks on single bytes: 100 + p "I use permission p", 200 + p
                 "others may not have p"; p is 0 read, 1 write, 2 write unchanged data, 3 resize. While we have locked bytes 201
                 and 203, no QEMU opens the image for writing; `qemu-img compare` may still read it

The locks and the lease of the same open file do not disturb each other. Not seen: a descriptor that was opened with O_PATH, and,
where there are no leases, a program that takes no lock.
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
"""A signal that a process ignores unless it has a handler for it."""
_NOT_SHARED_WRITE, _NOT_SHARED_RESIZE = 201, 203
_FIRST_BYTE, _LAST_BYTE = 100, 204
_NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)


class Alone(enum.Enum):
    """Whether this process has the only open descriptor of a file."""

    YES = "nobody else has it open"
    NO = "somebody has it open"
    UNKNOWN = "this file system, or the owner of the file, allows no lease: only locks and times of change can be checked"


def alone(fd: int) -> Alone:
    """Asks for a write lease on the file behind `fd`, and gives it back. The process must have no other descriptor of that file."""
    with leased(fd) as lone:
        return lone


@contextlib.contextmanager
def leased(fd: int) -> Iterator[Alone]:
    """Keeps the lease for the time of the `with` block, which must be short: whoever opens the file waits until it is given back.

    Only inside the block it is certain that nobody opens the file, writes it and closes it again.
    """
    lone = _ask(fd)
    try:
        yield lone
    finally:
        if lone is Alone.YES:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def ctime_of(fd: int, lone: Alone) -> int:
    """Returns the ctime of a file whose lease was taken before it got its name; 0 if the lease showed that somebody had it open."""
    return 0 if lone is Alone.NO else os.fstat(fd).st_ctime_ns


def lock_image(fd: int, where: str) -> None:
    """Keeps QEMU from opening the image behind `fd` for writing, as long as `fd` is open. Raises `DestinationInUse`, `OSError`."""
    try:
        for byte in (_NOT_SHARED_WRITE, _NOT_SHARED_RESIZE):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    except BlockingIOError as error:
        unlock_image(fd)
        raise in_use_error(where, "another program has locked it") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise  # on a file system without such locks nobody can hold one
    if image_is_locked(fd):
        unlock_image(fd)
        raise in_use_error(where, "a program that keeps QEMU's image locks has it open")


def _ask(fd: int) -> Alone:
    try:
        # The kernel sends a signal when somebody opens the file meanwhile; the default, SIGIO, would end this process.
        fcntl.fcntl(fd, _F_SETSIG, _SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return Alone.NO if error.errno in (errno.EAGAIN, errno.EBUSY) else Alone.UNKNOWN
    return Alone.YES


def unlock_image(fd: int) -> None:
    """Removes our locks, so that QEMU can open the image again."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, _FIRST_BYTE, _LAST_BYTE - _FIRST_BYTE, 0))


def image_is_locked(fd: int) -> bool:
    """Whether anybody else has a lock on the file. Takes no lock itself, so that it does not disturb a VM that starts."""
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return int(FLOCK.unpack(answer)[0]) != fcntl.F_UNLCK


def in_use_error(where: str, why: str) -> DestinationInUse:
    """Returns the error for a disk that somebody has open."""
    return DestinationInUse(f"{where}: in use: {why}", remedy="Power off the VM that uses this disk; a queued job is tried again.")
