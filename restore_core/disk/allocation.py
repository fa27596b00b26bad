"""Room for a disk: free space, the part file, ranges of zeros, and which parts of a file have blocks.

`fallocate(2)` is called directly: on a file system that cannot preallocate, the C library's `posix_fallocate` writes into every
block itself, slowly and without telling (F13 in docs/faults.md). Free space is what is there now; a thin datastore can still run
out of space at the first fsync.

A hole must be allocated before it is written. Allocating what is already allocated fails on a full XFS, so only the ranges
that have no blocks are allocated; FIEMAP tells them (Documentation/filesystems/fiemap.rst of the kernel).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator

from restore_core import durable
from restore_core.disk.destination import Destination
from restore_core.disk.scan import next_data
from restore_core.errors import DestinationInUse, NoSpace, SpacePromised, from_os_error, size_text
from restore_core.naming import printable

_FICLONE = 0x40049409
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10
_PIECE = bytes(1 << 20)
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EINVAL}
"""EINVAL is what fuse2fs says of a range of zeros, EPERM what fusefat says. A file that nobody may write (chattr +i) fails again
when zeros are written instead."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_FS_IOC_FIEMAP = 0xC020660B
_SYNC = 1
_SHARED, _LAST = 0x2000, 0x1
_HEAD = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQQQLLLL")
_MOST = 512
_NO_FIEMAP = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EBADR}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


def free_bytes(folder_fd: int) -> int:
    """Returns the free bytes for this user on the file system of an open folder. Raises `OSError`."""
    facts = os.statvfs(folder_fd)
    return facts.f_bavail * facts.f_frsize


def refuse_if_no_space(destination: Destination, *, needed: int, reserved: int, reusable: int = 0, thin: bool = False) -> None:
    """Raises `NoSpace` unless `needed` bytes fit beside the `reserved` bytes of other jobs.

    Raises `SpacePromised`, a kind of it, if they would fit without those. `reusable` are bytes that this restore frees itself, such
    as those of an existing part file. `thin` changes the remedy.
    """
    try:
        free = free_bytes(destination.folder_fd)
    except OSError as error:
        raise from_os_error(error, doing="asking for free space", where=printable(str(destination.path))) from error
    available = max(0, free + reusable - reserved)
    if needed > available:
        where = printable(str(destination.path))
        if reserved:
            where += f" (with {size_text(reserved)} reserved for other jobs)"
        kind = SpacePromised if needed <= free + reusable else NoSpace
        raise kind(where=where, needed=needed, free=available, thin=thin)


def open_part(destination: Destination, *, mode: int, keep: bool = False) -> int:
    """Opens the part file of a destination for reading and writing: empty, or, with `keep`, as a crash left it.

    The caller has the hold. Raises `DestinationInUse` if somebody writes the part file (which can only be when the lock file of
    the hold was removed), else the error of `from_os_error`.
    """
    where = printable(str(destination.path))
    try:
        return durable.take_part(destination.part_name, dir_fd=destination.folder_fd, mode=mode, keep=keep)
    except BlockingIOError as error:
        raise DestinationInUse(f"{where}: another restore is writing this disk", remedy="Wait for it, or cancel it.") from error
    except OSError as error:
        raise from_os_error(error, doing="making the part file", where=where) from error


def size_part(destination: Destination, fd: int, *, size: int, thick: bool, keep: bool = False) -> str | None:
    """Gives the part file behind `fd` its size; `thick` allocates every block now. Returns a note for the log or None.

    All bytes are zero, unless `keep` keeps those that are there. Raises `NoSpace`, else the error of `from_os_error`.
    """
    try:
        if not keep:
            set_size(fd, 0)
        set_size(fd, size)
        return _allocate(fd, size, keep=keep) if thick else None
    except OSError as error:
        where = printable(str(destination.path))
        if error.errno in _NO_SPACE:
            raise NoSpace(where=where, needed=size, free=free_bytes(destination.folder_fd)) from error
        raise from_os_error(error, doing=f"allocating {size_text(size)}", where=where) from error


def set_size(fd: int, size: int) -> None:
    """Sets the size; where a file cannot be made longer (fusefat: EPERM), zeros are written: a gap might hold old bytes there."""
    now = os.fstat(fd).st_size
    if size == now:
        return
    try:
        os.ftruncate(fd, size)
    except PermissionError:
        if now > size:
            raise
        _write_zeros(fd, now, size - now)


def clone(source: int, to: int) -> bool:
    """Makes `to` share all blocks of `source` (reflink). Returns False where the file system cannot. Raises `OSError`."""
    try:
        fcntl.ioctl(to, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def can_clone(fd: int, folder_fd: int) -> bool:
    """Whether a new file in the folder could share the blocks of this one. Asks with a file that never has a name."""
    with contextlib.suppress(OSError):
        unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)
        try:
            return clone(fd, unnamed)
        finally:
            os.close(unnamed)
    return False


def zero_range(fd: int, offset: int, length: int, *, thick: bool) -> None:
    """Makes a range inside a file read as zeros. Thick keeps its blocks allocated, thin frees them. Raises `OSError`."""
    if length == 0:
        return
    how = (_ZERO_RANGE if thick else _PUNCH_HOLE) | _KEEP_SIZE
    try:
        done = _fallocate(fd, how, offset, length)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        done = False  # on a full file system even this needs a block for tables; writing zeros does not
    if not done:
        _write_zeros(fd, offset, length)


def allocate_range(fd: int, offset: int, length: int) -> bool:
    """Allocates a range, also beyond the end of the file, without changing its size or a byte of it.

    Returns False where the file system cannot. Raises `OSError`.
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
    """Returns False where the file system cannot. Raises `OSError` for everything else."""
    while _libc.fallocate(fd, how, offset, length) != 0:
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        # Interrupted by a signal: its Python handler runs before the next round and may raise.
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def _write_zeros(fd: int, offset: int, length: int) -> None:
    end = offset + length
    for position in range(offset, end, len(_PIECE)):
        piece = _PIECE if end - position >= len(_PIECE) else _PIECE[: end - position]
        durable.write_all_at(fd, piece, position)


def shares_blocks(fd: int) -> bool:
    """Whether another file (a reflink copy, a snapshot) shares blocks with this one. False where the file system does not tell."""
    found = _extents(fd, 0, os.fstat(fd).st_size)
    return found is not None and any(flags & _SHARED for _start, _end, flags in found)


def holes(fd: int, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns (offset, length) of those parts of `ranges` (offset, length) that have no blocks yet, up to the end of the file."""
    found: list[tuple[int, int]] = []
    size = os.fstat(fd).st_size
    for offset, length in ranges:
        end = min(offset + length, size)
        for start, stop in _gaps(fd, offset, end):
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], found[-1][1] + stop - start)
            else:
                found.append((start, stop - start))
    return found


def _gaps(fd: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
    if offset >= end:
        return
    extents = _extents(fd, offset, end)
    at = offset
    for start, stop, _flags in _data(fd, offset, end) if extents is None else extents:
        if start > at:
            yield at, min(start, end)
        at = max(at, stop)
        if at >= end:
            return
    if at < end:
        yield at, end


def _extents(fd: int, offset: int, end: int) -> Iterator[tuple[int, int, int]] | None:
    """Returns (start, end, flags) of the extents that touch a range, in order; None where the file system does not tell."""
    try:
        first = _ask(fd, offset, end)
    except OSError as error:
        if error.errno in _NO_FIEMAP:
            return None
        raise
    return _following(fd, first, end)


def _following(fd: int, batch: list[tuple[int, int, int]], end: int) -> Iterator[tuple[int, int, int]]:
    while batch:
        yield from batch
        _start, stop, flags = batch[-1]
        if flags & _LAST or stop >= end:
            return
        batch = _ask(fd, stop, end)


def _ask(fd: int, offset: int, end: int) -> list[tuple[int, int, int]]:
    buffer = bytearray(_HEAD.pack(offset, end - offset, _SYNC, 0, _MOST, 0) + bytes(_MOST * _EXTENT.size))
    fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer)
    count = _HEAD.unpack_from(buffer)[3]
    found = [_EXTENT.unpack_from(buffer, _HEAD.size + at * _EXTENT.size) for at in range(count)]
    return [(logical, logical + length, flags) for logical, _physical, length, _1, _2, flags, *_rest in found]


def _data(fd: int, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the same by SEEK_DATA, where there is no FIEMAP (tmpfs)."""
    while offset < end:
        start, offset = next_data(fd, offset, end)
        if start < offset:
            yield start, offset, 0
