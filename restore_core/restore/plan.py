"""The plan of a restore: the map of a Delta, and what is wanted of it, become units of work, which threads take from `Feed`.

A unit is what one thread does in one go: fetch one run of compressed bytes, decode it, check every block, write those
that belong to the disk. Blocks that are kept (already right on the destination) and zero blocks need no unit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.archive.index_map import DELTA, FULL, ZERO, MapPage
from restore_core.errors import BadArchive, PhdError, Stopped, TargetUnavailable, TryAgainLater
from restore_core.restore.request import PlanSummary
from restore_core.targets.base import Range
from restore_core.targets.read_ahead import Fetch, ReadAhead

_DELTA_RUN = 8
"""Delta frames fetched in one go: 8 x 256 KiB is 2 MiB of disk, small enough to keep both threads busy to the end."""
_PAGES_AHEAD = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FullUnit:
    """One frame of the Full. `blocks` are indices within the page, none if it is only proven; `frame` is its number in it."""

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


def plan_summary(delta: DeltaReader) -> PlanSummary:
    """Returns what a restore to a new disk moves, from the counts in the header alone."""
    header = delta.header
    blocks = {ZERO: header.blocks_zero, FULL: header.blocks_full, DELTA: header.blocks_delta}
    cut = header.disk_size % header.block_size
    return counted(delta, blocks, delta.page(delta.pages - 1).kinds[-1] if cut else ZERO)


KEPT: Final = -1
"""Stands for the kind of a block that is kept."""


def counted(delta: DeltaReader, blocks: Mapping[int, int], last: int) -> PlanSummary:
    """Returns the summary of so many blocks of each kind; `last` is the kind of the last block, which the disk may cut short."""
    header = delta.header
    missing = header.blocks * header.block_size - header.disk_size
    names = {KEPT: "keep", ZERO: "zero", FULL: "full", DELTA: "delta"}
    counts = {f"{name}_blocks": blocks.get(kind, 0) for kind, name in names.items()}
    sizes = {
        f"{name}_bytes": blocks.get(kind, 0) * header.block_size - (missing if kind == last else 0) for kind, name in names.items()
    }
    return PlanSummary(block_size=header.block_size, disk_size=header.disk_size, **counts, **sizes)


def walk(
    delta: DeltaReader, wanted: Callable[[MapPage], bytes], *, in_disk_order: bool = False, every_frame: bool = False
) -> Iterator[list[Unit]]:
    """Walks the plan once: yields the units of each page of the map that has any, in the order of the disk.

    Within a page those of the Full come first, unless all are to come `in_disk_order`. With `every_frame` the frames of the Full
    from which no block is wanted come, too.
    `wanted` returns the kinds of a page, zero where nothing is to be fetched. A Full without frames is read as one stream: it has
    no units. Raises `BadArchive` for a damaged page.
    """
    header = delta.header
    for index in range(delta.pages):
        page = delta.page(index)
        kinds = wanted(page)
        units: list[Unit] = []
        per_frame = header.frame_size // header.block_size
        if header.frame_size and (every_frame or kinds.find(FULL) >= 0):
            units += _full_units(page, kinds, *delta.full_frames(index), per_frame, every=every_frame)
        if kinds.find(DELTA) >= 0:
            units += _delta_units(page, kinds)
        if in_disk_order:
            units.sort(key=lambda unit: unit.frame * per_frame if isinstance(unit, FullUnit) else unit.blocks[0])
        if units:
            yield units


def _full_units(
    page: MapPage, kinds: bytes, offsets: list[int], lengths: list[int], per_frame: int, *, every: bool
) -> Iterator[FullUnit]:
    for frame in range(max(len(offsets), -(-len(kinds) // per_frame))):
        start, end = frame * per_frame, min((frame + 1) * per_frame, len(kinds))
        if kinds.find(FULL, start, end) < 0 and not (every and frame < len(offsets)):
            continue
        blocks = tuple(index for index in range(start, end) if kinds[index] == FULL)
        # A frame beyond the table is a damaged Delta: `Feed` refuses its offset.
        offset, length = (offsets[frame], lengths[frame]) if frame < len(offsets) else (-1, 0)
        yield FullUnit(page=page, frame=frame, offset=offset, length=length, blocks=blocks)


def _delta_units(page: MapPage, wanted: bytes) -> Iterator[DeltaUnit]:
    """Yields runs of neighbouring frames, so that one read brings several blocks."""
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
    """Yields neighbouring numbers together, at most `_DELTA_RUN` of them."""
    start = 0
    for at in range(1, len(ranks) + 1):
        if at == len(ranks) or ranks[at] != ranks[at - 1] + 1 or at - start == _DELTA_RUN:
            yield range(ranks[start], ranks[at - 1] + 1)
            start = at


class CopyFailed(Exception):
    """The copy of the Full that is read broke or is damaged: another copy may do better. `error` says what happened."""

    def __init__(self, error: PhdError) -> None:
        super().__init__(error.message)
        self.error = error


class Feed:
    """The units of a plan in order, each with its compressed bytes. Threads take from it side by side.

    A local archive is read by whichever thread has the unit. An archive on a server is read in the order of the plan, as one
    stream that runs ahead: the thread whose turn it is waits for its bytes, while the others decode. The plan is walked once: pages
    that a stream has asked for and no thread has taken yet are held, at most `_PAGES_AHEAD`. A stream that comes to this bound
    ends, and is opened again when its next unit is taken.
    """

    def __init__(self, pages: Iterator[list[Unit]], delta: DeltaReader, full: FullReader | None) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._pages = pages
        self._held: deque[list[Unit]] = deque()
        self._first = 0
        """Number of the page that is taken from, the first of those held."""
        self._failures: list[PhdError] = []
        """Errors of the plan itself, which a stream that runs ahead meets, too."""
        self._units = self._in_order()
        self._delta, self._full = delta, full
        self._asked: dict[type[Unit], int] = {DeltaUnit: 0, FullUnit: 0}
        """Number of the first page that no stream has asked for, for each archive."""
        self._from_delta = ReadAhead(delta.source, lambda: self._ranges(DeltaUnit))
        self._from_full = ReadAhead(full.source, lambda: self._ranges(FullUnit)) if full is not None else None

    def take(self) -> tuple[Unit, Fetch] | None:
        """Returns the next unit, and what gives its bytes; None at the end. Raises what the archives raise."""
        with self._lock:
            self.refuse_if_over()
            unit = next(self._units, None)
            if unit is None:
                return None
            wanted = self._range(unit)
            if not isinstance(unit, FullUnit):
                return unit, self._from_delta.take(wanted)
            if self._from_full is None:
                raise PhdError(f"{self._delta.where}: a block needs the Full, and no Full was opened")
            with failing_copy(self._failures):
                return unit, self._from_full.take(wanted)

    def refuse_if_over(self) -> None:
        """Raise `Stopped` after `interrupt`."""
        if self._over:
            raise Stopped("another thread has failed")

    def interrupt(self) -> None:
        """Make `take` fail: now for threads that wait for a server in it, and at once for later calls."""
        self._over = True
        self._delta.source.interrupt()
        if self._full is not None:
            self._full.source.interrupt()

    def close(self) -> None:
        """Give the connections back, when no thread takes any more."""
        self._from_delta.close()
        if self._from_full is not None:
            self._from_full.close()

    def _in_order(self) -> Iterator[Unit]:
        while self._reaches(self._first):
            yield from self._held[0]
            self._held.popleft()
            self._first += 1

    def _reaches(self, number: int) -> bool:
        """Walk the plan on to the page of this number; False where the plan ends before it."""
        while self._first + len(self._held) <= number:
            page = next(self._pages, None)
            if page is None:
                return False
            self._held.append(page)
        return True

    def _ranges(self, kind: type[Unit]) -> Iterator[Range]:
        """Yields where one archive is to be read: pages that were not asked for yet, up to `_PAGES_AHEAD` of them."""
        while True:
            number = max(self._asked[kind], self._first)
            try:
                if number >= self._first + _PAGES_AHEAD or not self._reaches(number):
                    return
                ranges = [self._range(unit) for unit in self._held[number - self._first] if isinstance(unit, kind)]
            except PhdError as error:
                self._failures.append(error)
                raise
            self._asked[kind] = number + 1
            yield from ranges

    def _range(self, unit: Unit) -> Range:
        if not isinstance(unit, FullUnit):
            return self._delta.frames_range(unit.offset, unit.length)
        if unit.offset < 0:
            raise BadArchive(
                f"{self._delta.where}: a frame of the page at block {unit.page.first_block} is not in the frame table",
                remedy="Use another copy of this Delta.",
            )
        return unit.offset, unit.length


@contextmanager
def failing_copy(others: Sequence[PhdError] = ()) -> Iterator[None]:
    """Turns an error of the Full into `CopyFailed`; `others` are errors of something else."""
    try:
        yield
    except (BadArchive, TargetUnavailable, TryAgainLater) as error:
        if any(error is other for other in others):
            raise
        raise CopyFailed(error) from error
