"""Room for a disk: free space, the part file, and ranges of zeros.

`fallocate(2)` is called directly: the C library's `posix_fallocate` answers a file system that cannot preallocate by
writing into every block itself, slowly and without telling (FAULTS.md F13). Free space is what is there now; a thin
datastore can still run out at the first fsync.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from restore_core import durable
from restore_core.disk.destination import Destination
from restore_core.errors import DestinationInUse, NoSpace, SpacePromised, from_os_error
from restore_core.naming import printable

_FICLONE = 0x40049409
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10
_PIECE = bytes(1 << 20)
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


def free_bytes(folder_fd: int) -> int:
    """Bytes this user may still take on the file system of an open folder. Raises `OSError`."""
    facts = os.statvfs(folder_fd)
    return facts.f_bavail * facts.f_frsize


def refuse_if_no_space(destination: Destination, *, needed: int, reserved: int, reusable: int = 0, thin: bool = False) -> None:
    """Raise `NoSpace` unless `needed` bytes fit beside the `reserved` bytes of other jobs.

    `SpacePromised` if only those are in the way. `thin` is for the remedy.
    `reusable` are bytes that come free by this restore itself, such as those of a part file that is already there.
    """
    try:
        free = free_bytes(destination.folder_fd)
    except OSError as error:
        raise from_os_error(error, doing="asking for free space", where=printable(str(destination.path))) from error
    available = max(0, free + reusable - reserved)
    if needed > available:
        where = printable(str(destination.path))
        if reserved:
            where += f" (with {reserved} bytes set aside for other jobs)"
        kind = SpacePromised if needed <= free + reusable else NoSpace
        raise kind(where=where, needed=needed, free=available, thin=thin)


def take_part(destination: Destination, *, mode: int, keep: bool = False) -> int:
    """The part file of a destination, open for reading and writing: empty, or, with `keep`, as a crash left it.

    The caller has the hold. One that is being written all the same raises `DestinationInUse` (somebody removed the file that is
    locked for the hold), anything else the error of `from_os_error`.
    """
    where = printable(str(destination.path))
    try:
        return durable.take_part(destination.part_name, dir_fd=destination.folder_fd, mode=mode, keep=keep)
    except BlockingIOError as error:
        raise DestinationInUse(f"{where}: another restore is writing this disk", remedy="Wait for it, or cancel it.") from error
    except OSError as error:
        raise from_os_error(error, doing="making the part file", where=where) from error


def size_part(destination: Destination, fd: int, *, size: int, thick: bool, keep: bool = False) -> str | None:
    """Give the part file behind `fd` its size; a note for the log or None. Its bytes are zero, but for what `keep` leaves.

    Thick allocates every block now. Raises `NoSpace` if it does not fit, else the error of `from_os_error`.
    """
    try:
        if not keep:
            os.ftruncate(fd, 0)
        os.ftruncate(fd, size)
        return _allocate(fd, size, keep=keep) if thick else None
    except OSError as error:
        where = printable(str(destination.path))
        if error.errno in _NO_SPACE:
            raise NoSpace(where=where, needed=size, free=free_bytes(destination.folder_fd)) from error
        raise from_os_error(error, doing=f"allocating {size} bytes", where=where) from error


def clone(source: int, to: int) -> bool:
    """Make `to` share all blocks of `source` (reflink); False where the file system cannot. Raises `OSError` for the rest."""
    try:
        fcntl.ioctl(to, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def zero_range(fd: int, offset: int, length: int, *, thick: bool) -> None:
    """Make a range inside a file read as zeros. Thick keeps its blocks allocated, thin gives them back. Raises `OSError`."""
    if length == 0:
        return
    how = (_ZERO_RANGE if thick else _PUNCH_HOLE) | _KEEP_SIZE
    try:
        done = _fallocate(fd, how, offset, length)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        done = False  # on a full file system even this wants a block for its tables; zeros into what is allocated do not
    if not done:
        _write_zeros(fd, offset, length)


def allocate_range(fd: int, offset: int, length: int) -> bool:
    """Take room for a range, beyond the end of the file, too, without changing its size or a byte of it. Raises `OSError`.

    False where the file system cannot.
    """
    return length == 0 or _fallocate(fd, _KEEP_SIZE, offset, length)


def _allocate(fd: int, size: int, *, keep: bool) -> str | None:
    if size == 0 or _fallocate(fd, 0, 0, size):
        return None
    if keep:
        return "this file system cannot preallocate, so the holes of the part file stay"
    _write_zeros(fd, 0, size)
    return "this file system cannot preallocate, so the disk was filled with zeros first"


def _fallocate(fd: int, how: int, offset: int, length: int) -> bool:
    """False where the file system does not know how. Raises `OSError` for everything else."""
    while _libc.fallocate(fd, how, offset, length) != 0:
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        # A signal in between: its Python handler runs before the next round and may raise.
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def _write_zeros(fd: int, offset: int, length: int) -> None:
    end = offset + length
    for position in range(offset, end, len(_PIECE)):
        piece = _PIECE if end - position >= len(_PIECE) else _PIECE[: end - position]
        durable.write_all_at(fd, piece, position)
