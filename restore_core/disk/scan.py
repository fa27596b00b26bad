"""Reads a disk segment by segment: skips holes, recognises zero blocks, works on several segments at once."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from restore_core.errors import SourceRefused, TryAgainLater, remedy_for

SEGMENT_SIZE = 16 << 20
"""Bytes that are read and worked on at once; a whole number of blocks of every size."""

_ZEROS = bytes(1 << 20)
T = TypeVar("T")
R = TypeVar("R")
THREADS = min(4, max(1, len(os.sched_getaffinity(0))))


def segments(size: int) -> range:
    """Returns the numbers of the segments of a disk of `size` bytes."""
    return range(-(-size // SEGMENT_SIZE))


def is_zero(data: bytes) -> bool:
    """Whether all bytes are zero. Two `bytes` compare by `memcmp`, which stops at the first difference."""
    if len(data) > len(_ZEROS):
        return not data.strip(b"\0")
    return data == _ZEROS[: len(data)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The blocks of one segment: their bytes (None for a hole or all zero) and lengths; the disk's last one may be short."""

    number: int
    blocks: list[bytes | None]
    lengths: list[int]

    @property
    def zero(self) -> bool:
        """Whether every block is zero."""
        return all(block is None for block in self.blocks)

    def plain(self, start: int, end: int) -> bytes:
        """Returns the bytes of blocks `start` to `end`."""
        pairs = zip(self.blocks[start:end], self.lengths[start:end], strict=True)
        return b"".join(bytes(length) if block is None else block for block, length in pairs)

    def sha256(self) -> bytes | None:
        """Returns the SHA-256 of the whole segment; None when it is all zero."""
        if self.zero:
            return None
        sha = hashlib.sha256()
        for block, length in zip(self.blocks, self.lengths, strict=True):
            sha.update(bytes(length) if block is None else block)
        return sha.digest()


def read_segment(fd: int, number: int, size: int, block_size: int) -> Segment:
    """Returns one segment of the disk behind `fd`.

    Raises `SourceRefused` when the disk ends before `size`, `TryAgainLater` on an I/O error.
    """
    start, end = number * SEGMENT_SIZE, min((number + 1) * SEGMENT_SIZE, size)
    blocks: list[bytes | None] = []
    lengths: list[int] = []
    data_from, data_to = next_data(fd, start, end)
    for offset in range(start, end, block_size):
        stop = min(offset + block_size, end)
        if data_to <= offset:
            data_from, data_to = next_data(fd, offset, end)
        lengths.append(stop - offset)
        blocks.append(None if stop <= data_from else _read_block(fd, offset, stop - offset))
    return Segment(number=number, blocks=blocks, lengths=lengths)


def map_in_order(work: Callable[[T], R], items: Iterable[T], *, threads: int = THREADS) -> Iterator[R]:
    """Yields `work(item)` for each item, in order, computed by `threads` threads; at most `threads + 1` results are held."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def next_data(fd: int, offset: int, end: int) -> tuple[int, int]:
    """Returns the next (start, end) of data at or after `offset`, up to `end`; (end, end) when there is none."""
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return min(start, end), min(os.lseek(fd, start, os.SEEK_HOLE), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end, end
        return offset, end  # a device or a file system that knows no holes: everything is data


def _read_block(fd: int, offset: int, length: int) -> bytes | None:
    try:
        data = os.pread(fd, length, offset)
        while len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                raise SourceRefused(
                    f"the disk ends at {offset + len(data)} while it is read",
                    remedy="Something shrinks it; stop that and back up again.",
                )
            data += more
    except OSError as error:
        raise TryAgainLater(f"reading the disk at {offset}: {error.strerror}", remedy=remedy_for(error)) from error
    return None if is_zero(data) else data
