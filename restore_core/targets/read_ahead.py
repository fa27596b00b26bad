"""Reads the ranges of one file in order, ahead of their use, with bounded memory.

`requests` turns ranges into requests of a good size, `cut` turns the answers of a server into ranges again.
`ReadAhead` is for a restore, which knows the ranges that it will need, and asks for them in order.

    ReadAhead(source, ranges)          ranges(): an iterator of what comes next in the plan, read ahead of `take`; called again
                                       when it ended and more is taken
        take(range) -> fetch           called in the order of the ranges, under the caller's lock
        fetch() -> bytes               called outside of it

On a server `take` waits for the bytes and `fetch` returns them: one stream, in order, while other threads decode. On a local file
`take` does nothing and `fetch` is a `pread`, so that all threads read at the same time. Only bytes on their way are held.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial

from restore_core.errors import PhdError
from restore_core.targets.base import Buffer, ByteSource, Range
from restore_core.targets.local import LocalSource

Fetch = Callable[[], Buffer]


class ReadAhead:
    """The ranges that a restore will need of one archive; see above. `take` is for one thread at a time."""

    def __init__(self, source: ByteSource, ranges: Callable[[], Iterator[Range]]) -> None:
        self._source, self._ranges = source, ranges
        self._bytes: Generator[Buffer] | None = None
        self._failed: BaseException | None = None

    def take(self, wanted: Range) -> Fetch:
        """Returns what gives the bytes of the next range; raises the error that ended the stream."""
        if isinstance(self._source, LocalSource):
            return partial(self._source.read_at, *wanted)
        if self._failed is not None:
            raise self._failed
        try:
            data = next(self._bytes, None) if self._bytes is not None else None
            if data is None:
                self._bytes = self._source.ranges(self._ranges())
                data = next(self._bytes, None)
            if data is None:
                raise PhdError(f"{self._source.ref}: bytes were taken that no range of the plan announced")
        except BaseException as error:
            self._failed = error
            raise
        if len(data) != wanted[1]:
            raise PhdError(f"{self._source.ref}: {len(data)} bytes came for the {wanted[1]} at {wanted[0]}")
        return lambda: data

    def close(self) -> None:
        """Gives the connection back. No thread may be in `take`."""
        if self._bytes is not None:
            self._bytes.close()


def requests(ranges: Iterator[Range], *, size: int, gap: int) -> Iterator[Range]:
    """Yields requests of at most `size` bytes that cover all ranges in order. Ranges at most `gap` bytes apart become one."""
    start = end = 0
    for offset, length in ranges:
        if not length:
            continue
        if start < end and not end <= offset <= end + gap:
            yield start, end - start
            start = end
        if start == end:
            start = offset
        end = offset + length
        while end - start >= size:
            yield start, size
            start += size
    if start < end:
        yield start, end - start


def cut(ranges: Iterator[Range], pieces: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yields the bytes of each range, from pieces (offset, bytes) that cover them in order, as `requests` asked for them."""
    at, held = 0, b""
    for offset, length in ranges:
        parts, position, missing = [], offset, length
        while missing:
            inside = position - at
            if not 0 <= inside < len(held):
                at, held = next(pieces)
                continue
            part = held[inside : inside + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        yield parts[0] if len(parts) == 1 else b"".join(parts)
