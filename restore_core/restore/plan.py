"""The plan: from one page of the index map to units of work. Pure: data in, data out.

A unit is what one thread does in one go: fetch one run of compressed bytes, decode it, check every block, write those
that belong to the disk. Blocks that are kept (already right on the destination) and zero blocks need no unit on a new disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import block_length
from restore_core.archive.index_map import DELTA, FULL, ZERO, MapPage
from restore_core.restore.request import PlanSummary

_DELTA_RUN = 8
"""Delta frames fetched in one go: 8 x 256 KiB is 2 MiB of disk, small enough to keep both threads busy to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullUnit:
    """One frame of the Full. `blocks` are indices within the page; `frame` is its number within the page."""

    page: MapPage
    frame: int
    offset: int
    length: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaUnit:
    """Neighbouring frames of the Delta: `offset` and `length` within its frames section, one length a block."""

    page: MapPage
    offset: int
    length: int
    blocks: tuple[int, ...]
    lengths: tuple[int, ...]


Unit = FullUnit | DeltaUnit


def summary(delta: DeltaReader) -> PlanSummary:
    """What a restore to a new disk moves, from the header's counts alone."""
    header = delta.header
    short = header.blocks * header.block_size - header.disk_size
    zero, full, delta_ = (count * header.block_size for count in (header.blocks_zero, header.blocks_full, header.blocks_delta))
    if short:
        last = delta.page(delta.pages - 1).kinds[-1]
        zero, full, delta_ = (size - (short if last == kind else 0) for size, kind in ((zero, ZERO), (full, FULL), (delta_, DELTA)))
    return PlanSummary(
        block_size=header.block_size,
        disk_size=header.disk_size,
        zero_blocks=header.blocks_zero,
        full_blocks=header.blocks_full,
        delta_blocks=header.blocks_delta,
        zero_bytes=zero,
        full_bytes=full,
        delta_bytes=delta_,
    )


def units(page: MapPage, wanted: bytes, frames: tuple[list[int], list[int]] | None, blocks_per_frame: int) -> Iterator[Unit]:
    """The work of one page, in disk order of its kinds: frames of the Full first, then runs of the Delta.

    `wanted` are the page's kinds, zero where nothing is to be fetched. `frames` are offsets and lengths of the Full's frames of
    this page; None when the Full is read as one stream.
    """
    if frames is not None:
        yield from _full_units(page, wanted, *frames, blocks_per_frame)
    if wanted.find(DELTA) >= 0:
        yield from _delta_units(page, wanted)


def _full_units(page: MapPage, kinds: bytes, offsets: list[int], lengths: list[int], per_frame: int) -> Iterator[FullUnit]:
    block = kinds.find(FULL)
    while block >= 0:
        frame = block // per_frame
        end = min((frame + 1) * per_frame, len(kinds))
        blocks = tuple(index for index in range(block, end) if kinds[index] == FULL)
        # A frame beyond the table is a damaged Delta; the reader says so when it is fetched.
        offset, length = (offsets[frame], lengths[frame]) if frame < len(offsets) else (-1, 0)
        yield FullUnit(page=page, frame=frame, offset=offset, length=length, blocks=blocks)
        block = kinds.find(FULL, end)


def _delta_units(page: MapPage, wanted: bytes) -> Iterator[DeltaUnit]:
    """Runs of neighbouring frames, so that one read brings several blocks."""
    offsets = list(accumulate(page.delta_lengths, initial=page.delta_base))
    stored = [index for index, kind in enumerate(page.kinds) if kind == DELTA]
    for run in _runs([rank for rank, index in enumerate(stored) if wanted[index] == DELTA]):
        yield DeltaUnit(
            page=page,
            offset=offsets[run.start],
            length=offsets[run.stop] - offsets[run.start],
            blocks=tuple(stored[run.start : run.stop]),
            lengths=tuple(page.delta_lengths[run.start : run.stop]),
        )


def _runs(ranks: list[int]) -> Iterator[range]:
    """Neighbouring numbers together, at most `_DELTA_RUN` of them."""
    start = 0
    for at in range(1, len(ranks) + 1):
        if at == len(ranks) or ranks[at] != ranks[at - 1] + 1 or at - start == _DELTA_RUN:
            yield range(ranks[start], ranks[at - 1] + 1)
            start = at


def unit_bytes(unit: Unit, disk_size: int, block_size: int) -> int:
    """Bytes of the disk that a unit writes."""
    first = unit.page.first_block
    return sum(block_length(disk_size, block_size, first + index) for index in unit.blocks)
