"""Compares the bytes of a disk that pass by with the SHA-256 of its segments, which `sh DELTA` and the steps by hand rely on.

It is the sink of `verify`. Blocks of a segment come from several threads in any order: they are held until the last one that is
not zero is there, then the segment is hashed and dropped. The plan is walked in disk order, so few segments are open at once. A
Full without frames is one stream beside the plan: then whoever is more than `_AHEAD` segments before the first open one waits.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import block_length
from restore_core.archive.index_map import BLOCKS_PER_PAGE, ZERO
from restore_core.errors import BadArchive

_ZEROS = bytes(1 << 20)
_AHEAD = 3


class SegmentProof:
    """A sink that writes nothing. `write` and `finish` raise `BadArchive` for a segment that is not what the list says."""

    waits = False

    def __init__(self, delta: DeltaReader) -> None:
        header = delta.header
        self._delta, self._disk, self._size = delta, header.disk_size, header.segment_size
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self.refuse_if_over: Callable[[], None] | None = None
        """Makes threads wait for each other, and is called while they do: it raises when another one has failed."""
        self._first_open = 0
        self._complete: set[int] = set()
        self._list = delta.segments()
        self._read = -1
        """The last segment that was read from the list."""
        self._listed: dict[int, bytes] = {}
        self._page = functools.lru_cache(maxsize=4)(delta.page)
        self._held: dict[int, dict[int, memoryview]] = {}
        self._left: dict[int, int] = {}
        """For each open segment: bytes that are not zero by the map, and have not come yet."""

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Takes verified bytes of the disk, which nobody may change; hashes the segments that are complete with them."""
        view = memoryview(data)
        while view:
            number, start = divmod(offset, self._size)
            piece = view[: self._size - start]
            self._take(number, start, piece)
            view, offset = view[len(piece) :], offset + len(piece)

    def close(self) -> None:
        """Does nothing: this sink opens nothing."""

    def finish(self) -> None:
        """Checks the rest of the list: what the map has no block of must be zero."""
        with self._lock:
            self._read_list(-(-self._disk // self._size))

    def _take(self, number: int, start: int, piece: memoryview) -> None:
        with self._lock:
            self._wait_for_turn(number)
            if number not in self._held:
                self._held[number], self._left[number] = {}, self._bytes_in(number)
            self._held[number][start] = piece
            self._left[number] -= len(piece)
            if self._left[number]:
                return
            del self._left[number]
            held = self._held.pop(number)
            self._complete.add(number)
            self._turn.notify_all()
            self._read_list(number)
            wanted = self._listed.pop(number, None)
        self._check(number, held, wanted)

    def _wait_for_turn(self, number: int) -> None:
        """Wait until the segment is at most `_AHEAD` from the first that is open: what that one lacks comes from another thread."""
        while self.refuse_if_over is not None and number > self._first_open + _AHEAD:
            if self._first_open in self._complete or not self._bytes_in(self._first_open):
                self._complete.discard(self._first_open)
                self._first_open += 1
                continue
            self.refuse_if_over()
            self._turn.wait(0.25)

    def _read_list(self, end: int) -> None:
        """Reads the list up to a segment; a segment of which the map has no block is checked at once."""
        while self._read < end:
            entry = next(self._list, None)
            if entry is None:
                self._read = end
                return
            self._read = entry[0]
            if self._bytes_in(entry[0]):
                self._listed[entry[0]] = entry[1]
            else:
                self._check(entry[0], {}, entry[1])

    def _bytes_in(self, number: int) -> int:
        """Returns how many bytes of a segment the map does not call zero."""
        header = self._delta.header
        first = number * (self._size // header.block_size)
        page, at = divmod(first, BLOCKS_PER_PAGE)
        kinds = self._page(page).kinds[at : at + self._size // header.block_size]
        missing = header.block_size - block_length(self._disk, header.block_size, first + len(kinds) - 1)
        return (len(kinds) - kinds.count(ZERO)) * header.block_size - (missing if kinds[-1] else 0)

    def _check(self, number: int, held: dict[int, memoryview], wanted: bytes | None) -> None:
        length = min(self._size, self._disk - number * self._size)
        sha, at = hashlib.sha256(), 0
        for start, piece in sorted(held.items()):
            _add_zeros(sha, start - at)
            sha.update(piece)
            at = start + len(piece)
        _add_zeros(sha, length - at)
        if wanted is None and not any(bytes(piece).strip(b"\0") for piece in held.values()):
            return
        if sha.digest() != wanted:
            raise BadArchive(
                f"{self._delta.where}: section segments: segment {number} has SHA-256 {sha.hexdigest()} on the disk, "
                f"the list says {wanted.hex() if wanted else 'that it is zero'}",
                remedy="'phd restore' does not use this list and gives the right disk; 'sh' would refuse. Make a new backup.",
            )


def _add_zeros(sha: hashlib._Hash, count: int) -> None:
    while count:
        sha.update(memoryview(_ZEROS)[:count])
        count -= min(count, len(_ZEROS))
