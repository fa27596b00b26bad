"""Where the bytes of a disk come from: cuts a range of it into spans, by the index map of the Delta.

A span lies in one unit, which is what is fetched and decoded at once: a frame of the Full, or one block of the Delta. Zero blocks
belong to no unit. Pages of the map are read when they are needed, checked against the page table, and some of them are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import block_length
from restore_core.archive.index_map import BLOCKS_PER_PAGE, DELTA, FULL, ZERO, MapPage

_PAGES_KEPT = 32
"""About 300 KB each; they cover 32 GiB of a disk with blocks of 256 KiB."""
_IN_USE = re.compile(rb"[^\0]")


class ServedUnit(NamedTuple):
    """What is decoded at once: frame `number` of the Full, or block `number`, which is in the Delta."""

    of_full: bool
    number: int


class Span(NamedTuple):
    """Bytes of the disk that come from one unit; `unit` is None where they are zero."""

    offset: int
    length: int
    unit: ServedUnit | None


class Extent(NamedTuple):
    """Bytes of the disk, all of which are zero blocks or none of which are."""

    length: int
    zero: bool


class MappedPage(NamedTuple):
    """A page of the map, with the offsets of its frames within both archives.

    `delta_ranks` gives the number of a block of the Delta among those of the page, by its index in the page.
    """

    page: MapPage
    full_offsets: list[int]
    full_lengths: list[int]
    delta_offsets: list[int]
    delta_ranks: dict[int, int]


class BlockMap:
    """The map of one Delta. Any threads may use it. Reading a page raises what the archive raises."""

    def __init__(self, delta: DeltaReader) -> None:
        header = delta.header
        self._delta = delta
        self.size, self.block_size, self.blocks = header.disk_size, header.block_size, header.blocks
        self.per_frame = max(1, header.frame_size // header.block_size)
        self.page = lru_cache(maxsize=_PAGES_KEPT)(self._read_page)
        """Returns the page of this number."""

    def page_of(self, block: int) -> tuple[MappedPage, int]:
        """Returns the page that holds a block, and the block's index in it."""
        return self.page(block // BLOCKS_PER_PAGE), block % BLOCKS_PER_PAGE

    def unit_of(self, block: int) -> ServedUnit | None:
        """Returns the unit that a block comes from; None for a zero block."""
        mapped, index = self.page_of(block)
        kind = mapped.page.kinds[index]
        if kind == ZERO:
            return None
        return ServedUnit(True, block // self.per_frame) if kind == FULL else ServedUnit(False, block)

    def uses_frame(self, number: int) -> bool:
        """Returns whether a block comes from this frame of the Full, if there is such a frame."""
        block = number * self.per_frame
        if block >= self.blocks:
            return False
        mapped, index = self.page_of(block)
        return mapped.page.kinds.find(FULL, index, index + self.per_frame) >= 0

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        """Yields the spans of a range of the disk, in order: neighbouring blocks of one unit, or zero blocks, together."""
        if not length:
            return
        end = offset + length
        start, unit, first = offset, None, True
        for block in range(offset // self.block_size, -(-end // self.block_size)):
            here = self.unit_of(block)
            at = max(offset, block * self.block_size)
            if not first and here != unit:
                yield Span(start, at - start, unit)
                start = at
            unit, first = here, False
        yield Span(start, end - start, unit)

    def extents(self, offset: int, length: int, most: int) -> list[Extent]:
        """Returns at most so many extents, from `offset` on; they end at the end of the range at the latest."""
        found: list[Extent] = []
        end, at = offset + length, offset
        while at < end:
            zero, until = self._run(at // self.block_size)
            until = min(until, end)
            if found and found[-1].zero == zero:
                found[-1] = Extent(found[-1].length + until - at, zero)
            elif len(found) == most:
                break
            else:
                found.append(Extent(until - at, zero))
            at = until
        return found

    def offset_of(self, unit: ServedUnit) -> int:
        """Returns where on the disk a unit begins."""
        return unit.number * self.block_size * (self.per_frame if unit.of_full else 1)

    def length_of(self, block: int) -> int:
        """Returns the bytes in a block: the last one may be short."""
        return block_length(self.size, self.block_size, block)

    def _run(self, block: int) -> tuple[bool, int]:
        """Returns whether a block is zero, and the disk offset up to which the blocks after it on its page are so, too."""
        mapped, index = self.page_of(block)
        kinds = mapped.page.kinds
        zero = kinds[index] == ZERO
        if zero:
            other = _IN_USE.search(kinds, index)
            stop = other.start() if other else len(kinds)
        else:
            stop = kinds.find(ZERO, index)
            stop = stop if stop >= 0 else len(kinds)
        return zero, (mapped.page.first_block + stop) * self.block_size

    def _read_page(self, number: int) -> MappedPage:
        page = self._delta.page(number)
        framed = self._delta.header.frame_size and page.kinds.find(FULL) >= 0
        offsets, lengths = self._delta.full_frames(number) if framed else ([], [])
        in_delta = (index for index, kind in enumerate(page.kinds) if kind == DELTA) if page.delta_lengths else ()
        return MappedPage(
            page=page,
            full_offsets=offsets,
            full_lengths=lengths,
            delta_offsets=list(accumulate(page.delta_lengths, initial=page.delta_base)),
            delta_ranks={index: rank for rank, index in enumerate(in_delta)},
        )
