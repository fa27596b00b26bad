"""Where the blocks of a file are: which ranges have none yet, and whether any is shared with another file (FIEMAP).

Room for a hole has to be taken before the hole is written; allocating over what is allocated already fails on a full XFS, so
only what FIEMAP knows nothing of is allocated. Source: Documentation/filesystems/fiemap.rst of the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator

_FS_IOC_FIEMAP = 0xC020660B
_SYNC = 1
_SHARED, _LAST = 0x2000, 0x1
_HEAD = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQQQLLLL")
_MOST = 512
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EBADR}


def shares_blocks(fd: int) -> bool:
    """Whether another file (a reflink copy, a snapshot) has blocks in common with this one. False where that cannot be told."""
    found = _extents(fd, 0, os.fstat(fd).st_size)
    return found is not None and any(flags & _SHARED for _start, _end, flags in found)


def holes(fd: int, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(offset, length) of those parts of `ranges` (offset, length) that have no blocks yet, before the end of the file."""
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
    """(start, end, flags) of the extents that touch a range, in order; None where the file system does not tell."""
    try:
        first = _ask(fd, offset, end)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
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
    """The same by SEEK_DATA, where there is no FIEMAP (tmpfs)."""
    while offset < end:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            yield offset, end, 0
            return
        stop = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, stop, 0
        offset = stop
