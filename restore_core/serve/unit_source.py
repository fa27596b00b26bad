"""Fetches, decodes and verifies one unit of a disk: a frame of the Full, or a block of the Delta.

A frame that cannot be read, or in which a block is not what the map says, is tried from the other copies of the Full. What is left
is bad, and is reported once for each block; it is never served.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import decode
from restore_core.archive.full_reader import FullReader, check_block, frame_plain_size
from restore_core.archive.index_map import BLOCKS_PER_PAGE, FULL
from restore_core.errors import BadArchive, PhdError, TargetUnavailable, TryAgainLater
from restore_core.serve.block_map import BlockMap, MappedPage, ServedUnit
from restore_core.serve.frame_cache import Decoded
from restore_core.serve.full_copies import FullCopies

Tell = Callable[[str], None]
"""Takes one line for the log. It is called from any thread, one at a time."""


@dataclass(slots=True)
class Damage:
    """How many blocks were found bad, and how many of the bad ones another copy of the Full had."""

    bad: int = 0
    healed: int = 0


class UnitSource:
    """The archives of one disk. Any threads may use it."""

    def __init__(self, delta: DeltaReader, blocks: BlockMap, copies: FullCopies | None, tell: Tell) -> None:
        self._delta, self._blocks, self._copies, self._tell = delta, blocks, copies, tell
        self._lock = threading.Lock()
        self._told: dict[int, bytearray] = {}
        """The blocks that were told of: one bit for each block of a page that has such."""
        self._silent: set[str] = set()
        self.damage = Damage()

    def fetch(self, unit: ServedUnit) -> Decoded:
        """Returns the unit. Raises `TargetUnavailable`, `TryAgainLater` if it cannot be had now, `BadArchive` for a bad map.

        A bad block is no error here: it is in `Decoded.bad`.
        """
        return self._frame(unit.number) if unit.of_full else self._delta_block(unit.number)

    def _delta_block(self, block: int) -> Decoded:
        mapped, index = self._blocks.page_of(block)
        rank = mapped.delta_ranks[index]
        where = f"{self._delta.where}: block {block}"
        at, length = self._delta.frames_range(mapped.delta_offsets[rank], mapped.page.delta_lengths[rank])
        offset = block * self._blocks.block_size
        try:
            plain = decode(self._delta.source.read_at(at, length), self._blocks.length_of(block), where)
            check_block(self._delta, mapped.page, index, plain, self._delta.where)
        except BadArchive as error:
            self._report({block: error})
            return Decoded(offset=offset, data=memoryview(b""), bad={block: error})
        return Decoded(offset=offset, data=memoryview(plain))

    def _frame(self, number: int) -> Decoded:
        mapped, index = self._blocks.page_of(number * self._blocks.per_frame)
        best: Decoded | None = None
        failed: PhdError | None = None
        for full in self._copies.each() if self._copies is not None else ():
            try:
                found = self._frame_of(full, number, mapped, index)
            except (TargetUnavailable, TryAgainLater) as error:
                self._went_silent(full, error)
                failed = failed or error
                continue
            if self._silent:
                self._answers(full)
            if not found.bad:
                self._healed(best, full)
                return found
            if best is None or len(found.bad) < len(best.bad):
                best = found
        if best is None or failed is not None:
            # A copy that does not answer now may have what is bad in the others: only one that was read is known to be bad.
            raise failed or PhdError(f"{self._delta.where}: a block needs the Full, and no Full was opened")
        self._report(best.bad)
        return best

    def _frame_of(self, full: FullReader, number: int, mapped: MappedPage, first: int) -> Decoded:
        """Returns a frame as one copy has it, with the blocks of it that are bad there. `first` is its first block in the page."""
        page, size = mapped.page, self._blocks.block_size
        kinds = page.kinds[first : first + self._blocks.per_frame]
        wanted = [index for index, kind in enumerate(kinds) if kind == FULL]
        offset = (page.first_block + first) * size
        try:
            member = full.frame(mapped.full_offsets, mapped.full_lengths, first // self._blocks.per_frame)
            plain = memoryview(decode(member, frame_plain_size(self._delta, number), f"{full.where}: frame {number}"))
        except BadArchive as error:
            every = {page.first_block + first + index: error for index in wanted}
            return Decoded(offset=offset, data=memoryview(b""), bad=every)
        bad: dict[int, PhdError] = {}
        for index in wanted:
            try:
                check_block(self._delta, page, first + index, plain[index * size : (index + 1) * size], full.where)
            except BadArchive as error:
                bad[page.first_block + first + index] = error
        return Decoded(offset=offset, data=plain, bad=bad)

    def _report(self, bad: Mapping[int, PhdError]) -> None:
        """Tells of each bad block, the first time that it is met."""
        with self._lock:
            for block in self._new(list(bad)):
                self.damage.bad += 1
                self._tell(f"block {block} cannot be served: {bad[block].message}")

    def _healed(self, before: Decoded | None, full: FullReader) -> None:
        if before is None:
            return
        with self._lock:
            for block in self._new(list(before.bad)):
                self.damage.healed += 1
                self._tell(f"block {block} is served from {full.where}: {before.bad[block].message}")

    def _new(self, blocks: Sequence[int]) -> Iterator[int]:
        """Yields the blocks that were not told of before."""
        for block in blocks:
            page, index = divmod(block, BLOCKS_PER_PAGE)
            told = self._told.setdefault(page, bytearray(BLOCKS_PER_PAGE // 8))
            if not told[index // 8] & 1 << index % 8:
                told[index // 8] |= 1 << index % 8
                yield block

    def _went_silent(self, full: FullReader, error: PhdError) -> None:
        if self._copies is not None:
            self._copies.put_last(full)
        with self._lock:
            if full.where not in self._silent:
                self._silent.add(full.where)
                self._tell(f"does not answer: {error.message}")

    def _answers(self, full: FullReader) -> None:
        with self._lock:
            if full.where in self._silent:
                self._silent.remove(full.where)
                self._tell(f"answers again: {full.where}")
