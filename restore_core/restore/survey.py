"""Compares what is on a disk, block by block, with what a Delta wants there: keep, write or clear. Reads only.

It hashes the disk on all cores and skips its holes. When a receipt proves that nobody wrote the disk since we did, it compares the
digests of that restore instead and does not read the disk at all.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Final, Protocol

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import BlockDigest
from restore_core.archive.full_reader import block_length
from restore_core.archive.index_map import BLOCKS_PER_PAGE, ZERO, MapPage
from restore_core.disk.scan import SEGMENT_SIZE, map_in_order, read_segment
from restore_core.restore.plan import KEPT, counted
from restore_core.restore.request import PlanSummary
from restore_core.targets.base import Stop

KEEP: Final = 0
WRITE: Final = 1
CLEAR: Final = 2
"""There is data where zeros belong."""

_WRITTEN, _CLEARED = re.compile(b"\x01+"), re.compile(b"\x02+")


class KnownDigests(Protocol):
    """Digests of a disk that are known without reading it."""

    def page(self, index: int, blocks: int) -> list[bytes | None]:
        """Returns one digest for each block of that page, None for a zero block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What to do with each block, page by page, and the sums."""

    actions: tuple[bytes, ...]
    plan: PlanSummary
    by: str
    """How it is known: by hashing the disk, or from a receipt."""

    def wanted(self, page: MapPage) -> bytes:
        """Returns the kinds of the page, zero where nothing has to be fetched."""
        actions = self.actions[page.first_block // BLOCKS_PER_PAGE]
        return bytes(kind if action == WRITE else ZERO for kind, action in zip(page.kinds, actions, strict=True))

    def written(self) -> Iterator[tuple[int, int]]:
        """Yields (first block, number) of the runs of blocks that are to be written, none longer than a page."""
        return self._runs(_WRITTEN)

    def cleared(self, delta: DeltaReader) -> Iterator[tuple[int, int]]:
        """Yields (offset, length) of the runs that must become zero, in bytes of the disk."""
        header = delta.header
        for block, count in self._runs(_CLEARED):
            offset = block * header.block_size
            yield offset, min(count * header.block_size, header.disk_size - offset)

    def _runs(self, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, int]]:
        for number, actions in enumerate(self.actions):
            for run in pattern.finditer(actions):
                yield number * BLOCKS_PER_PAGE + run.start(), run.end() - run.start()


def survey_disk(delta: DeltaReader, fd: int, size: int, stop: Stop) -> Survey:
    """Hashes the `size` bytes behind `fd` and compares. Beyond the end it counts as zeros, which is what it will grow with."""
    header = delta.header
    found = _hashed(
        fd,
        min_size=min(size, header.disk_size),
        disk_size=header.disk_size,
        block_size=header.block_size,
        digest=header.block_digest,
    )
    return _compare(delta, found, stop, by="hashed what was there")


def survey_known(delta: DeltaReader, known: KnownDigests, stop: Stop) -> Survey:
    """Compares with digests that are known."""

    def blocks() -> Iterator[bytes | None]:
        for index in range(delta.pages):
            yield from known.page(index, min(BLOCKS_PER_PAGE, delta.header.blocks - index * BLOCKS_PER_PAGE))

    return _compare(delta, blocks(), stop, by="nobody wrote it since our last restore, whose digests are known")


def holds_digests(
    fd: int,
    size: int,
    block_size: int,
    digest: BlockDigest,
    *,
    known: KnownDigests,
    stop: Stop,
    passed_over: bytes | bytearray = b"",
) -> bool:
    """Whether the `size` bytes behind `fd` have exactly these digests. The disk is read as a whole, up to the first difference.

    Blocks for which `passed_over` has a 1 are not compared; a disk that ends before `size` is read as if zeros followed.
    """
    count = -(-size // block_size)
    found = _hashed(fd, min_size=min(size, os.fstat(fd).st_size), disk_size=size, block_size=block_size, digest=digest)
    for first in range(0, count, BLOCKS_PER_PAGE):
        expected = known.page(first // BLOCKS_PER_PAGE, min(BLOCKS_PER_PAGE, count - first))
        there = list(islice(found, len(expected)))
        there += [None] * (len(expected) - len(there))
        skipped = passed_over[first : first + len(expected)].ljust(len(expected), b"\0")
        if any(wanted != held and not skip for wanted, held, skip in zip(expected, there, skipped, strict=True)):
            return False
        stop()
    return True


def _hashed(fd: int, *, min_size: int, disk_size: int, block_size: int, digest: BlockDigest) -> Iterator[bytes | None]:
    """Yields the digest of each block in the first `min_size` bytes, None where it is zero or beyond the end.

    A block that the end of the disk cuts short is hashed with zeros behind it: so it will be once the disk has `disk_size`.
    """
    per_segment = SEGMENT_SIZE // block_size

    def work(number: int) -> list[bytes | None]:
        segment = read_segment(fd, number, min_size, block_size)
        digests = [None if block is None else digest.of(block) for block in segment.blocks]
        last = number * per_segment + len(segment.blocks) - 1
        wanted = block_length(disk_size, block_size, last)
        if segment.blocks and segment.blocks[-1] is not None and segment.lengths[-1] < wanted:
            digests[-1] = digest.of(segment.blocks[-1].ljust(wanted, b"\0"))
        return digests + [None] * (per_segment - len(digests))

    for digests in map_in_order(work, range(-(-min_size // SEGMENT_SIZE))):
        yield from digests


def _compare(delta: DeltaReader, found: Iterator[bytes | None], stop: Stop, *, by: str) -> Survey:
    actions, last = [], ZERO
    counts: Counter[int] = Counter()
    for number in range(delta.pages):
        page = delta.page(number)
        # None stands for zero on both sides; zip ends with the page, since the blocks found may go on.
        pairs = zip(page.content(), chain(islice(found, len(page.kinds)), repeat(None)), strict=False)
        decided = bytes(KEEP if wanted == there else WRITE if wanted is not None else CLEAR for wanted, there in pairs)
        actions.append(decided)
        kinds = [KEPT if action == KEEP else kind for kind, action in zip(page.kinds, decided, strict=True)]
        counts.update(kinds)
        last = kinds[-1]
        stop()
    return Survey(actions=tuple(actions), plan=counted(delta, counts, last), by=by)
