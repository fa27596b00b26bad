"""`ServedDisk`: the disk of a Delta, read at random, without restoring it."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import DeltaHeader
from restore_core.errors import PhdError, Stopped, UsageError
from restore_core.restore.fulls.find import copies_in_catalog, full_beside, proven_copies
from restore_core.restore.request import Reporter
from restore_core.serve.block_map import BlockMap, Extent, ServedUnit, Span
from restore_core.serve.frame_cache import Decoded, FrameCache
from restore_core.serve.full_copies import FullCopies
from restore_core.serve.read_order import ReadOrder
from restore_core.serve.unit_source import Damage, UnitSource
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef

CACHE_BYTES = 64 << 20
"""Bytes of decoded frames that are kept."""
_MORE_THAN_CORES = 2
"""Threads beside those that decode, which wait for an archive."""
_AHEAD = 4
"""Units that are decoded before they are asked for."""
_ZEROS = memoryview(bytes(1 << 20))
_numbers = itertools.count()

Piece: TypeAlias = memoryview
"""Bytes of the disk, in order; they belong to the cache, and must not be written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRequest:
    """Which disk to serve. `full` names its Full, None: found on the targets.

    `catalog` and `catalog_max_age` are as in `RestoreRequest`.
    """

    delta: ArchiveRef
    full: ArchiveRef | None = None
    catalog: Path | None = None
    catalog_max_age: float = 5 * 3600.0


class ServedDisk:
    """The disk of a Delta. Any threads may use it. Every byte was verified against the digest of its block before it is returned.

    Make it with `open_served_disk`. `size` and `block_size` are bytes.
    """

    def __init__(
        self,
        delta: DeltaReader,
        copies: FullCopies | None,
        cache: FrameCache,
        *,
        own_cache: bool,
        reporter: Reporter,
        order: Sequence[int] = (),
    ) -> None:
        self._delta, self._copies, self._cache, self._own_cache = delta, copies, cache, own_cache
        self._blocks = BlockMap(delta)
        self._units = UnitSource(delta, self._blocks, copies, reporter.note)
        self._order = ReadOrder(self._blocks, order)
        self._number = next(_numbers)
        self._last_frame = -1
        """The frame of the Full that was asked for last; a hint, so threads may change it as they like."""
        self._closed = False
        self.size, self.block_size = self._blocks.size, self._blocks.block_size

    @property
    def header(self) -> DeltaHeader:
        """The header of the Delta: whose disk it is, and of what time."""
        return self._delta.header

    @property
    def full(self) -> ArchiveRef | None:
        """The Full that is read first; None if no block comes from it."""
        return self._copies.opened()[0].source.ref if self._copies is not None else None

    @property
    def order(self) -> list[int]:
        """The offsets on the disk in the order in which they were first read, for a later `open_served_disk`."""
        return self._order.offsets()

    @property
    def damage(self) -> Damage:
        """The bad blocks that were met so far."""
        return self._units.damage

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes from `offset`; fewer at the end of the disk, as `pread` does.

        Raises `BadArchive` if a block among them is bad in every copy; `TargetUnavailable` or `TryAgainLater` if one cannot be had
        now.
        """
        spans = self.spans(offset, length)
        coming = deque(span.unit for span in spans if span.unit is not None)
        found: list[Piece] = []
        for span in spans:
            for unit in itertools.islice(coming, self._cache.threads):  # these are decoded side by side
                self.fetch(unit)
            if span.unit is not None:
                coming.popleft()
            found += self.pieces(span)
        return b"".join(found)

    def spans(self, offset: int, length: int) -> list[Span]:
        """Returns where a range of the disk comes from, cut off at the end of the disk. Raises `BadArchive` for a damaged map."""
        if offset < 0 or length < 0:
            raise ValueError(f"not a range of a disk: {offset}, {length}")
        return list(self._blocks.spans(offset, max(0, min(length, self.size - offset))))

    def fetch(self, unit: ServedUnit) -> Future[Decoded]:
        """Returns the promise of a unit of this disk, which is fetched in another thread unless the cache has it."""
        if self._closed:
            raise Stopped(f"{self._delta.where}: is no longer served")
        found = self._begin(unit)
        with contextlib.suppress(PhdError):  # who asks for it then is told
            self._read_ahead(unit)
        return found

    def cost(self, unit: ServedUnit) -> int:
        """Returns the bytes of memory that a decoded unit takes."""
        return self.block_size * (self._blocks.per_frame if unit.of_full else 1)

    def pieces(self, span: Span) -> Iterator[Piece]:
        """Yields the bytes of a span; waits for its unit. Raises as `read` does."""
        if span.unit is None:
            for at in range(0, span.length, len(_ZEROS)):
                yield _ZEROS[: span.length - at]
            return
        try:
            decoded = self.fetch(span.unit).result()
        except CancelledError:
            raise Stopped(f"{self._delta.where}: is no longer served") from None
        yield cut_span(decoded, span, self.block_size)

    def extents(self, offset: int, length: int, *, most: int = 4096) -> list[Extent]:
        """Returns which parts of a range are zero blocks, at most so many of them. No archive but the map is read for it."""
        return self._blocks.extents(offset, max(0, min(length, self.size - offset)), most)

    def _begin(self, unit: ServedUnit) -> Future[Decoded]:
        return self._cache.get(self._number, unit, partial(self._units.fetch, unit))

    def _read_ahead(self, unit: ServedUnit) -> None:
        """Begins what will be asked for next: by a reader in the order of an earlier run, or in that of the disk."""
        following = self._order.read(unit, _AHEAD)
        if unit.of_full:
            if not following and unit.number == self._last_frame + 1:
                ahead = range(unit.number + 1, unit.number + 1 + _AHEAD)
                following = [ServedUnit(True, number) for number in ahead if self._blocks.uses_frame(number)]
            self._last_frame = unit.number
        if self._cache.limit >= 4 * _AHEAD * self.cost(unit):
            for each in following:
                if not self._cache.holds(self._number, each):
                    self._begin(each)

    def close(self) -> None:
        """Ends reads in other threads with an error, and closes the archives. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._delta.source.interrupt()
        for full in self._copies.opened() if self._copies is not None else ():
            full.source.interrupt()
        self._cache.drop(self._number)
        if self._own_cache:
            self._cache.close()
        if self._copies is not None:
            self._copies.close()
        self._delta.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cut_span(decoded: Decoded, span: Span, block_size: int) -> Piece:
    """Returns the bytes of a span out of its unit. Raises the error of the first bad block in it."""
    if decoded.bad:
        for block in range(span.offset // block_size, -(-(span.offset + span.length) // block_size)):
            if block in decoded.bad:
                raise decoded.bad[block]
    at = span.offset - decoded.offset
    return decoded.data[at : at + span.length]


def new_cache(limit: int = CACHE_BYTES) -> FrameCache:
    """Returns a cache for several disks, which `close`s after them."""
    return FrameCache(limit, min(4, len(os.sched_getaffinity(0))) + _MORE_THAN_CORES)


def open_served_disk(
    request: DiskRequest,
    targets: TargetSet,
    *,
    reporter: Reporter,
    cache: FrameCache | None = None,
    order: Sequence[int] = (),
) -> ServedDisk:
    """Opens the disk of a Delta. Finds and proves its Full as a restore does; nothing is decoded but for that proof.

    `order` are offsets on the disk in which an earlier run read it: what comes next there is fetched ahead.
    Raises `BadArchive` for what is no sound Delta, `UsageError` if its Full has no frames, and what the search for the Full raises.
    The notes of `reporter` come from any thread, one at a time. Without a `cache` the disk has one of `CACHE_BYTES`.
    """
    notes = _OneAtATime(reporter)
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(targets.open(request.delta))
        delta = DeltaReader(source)
        reporter.note(f"Delta: {delta.where}, {source.size} bytes, of {delta.header.describe()}")
        copies = None
        if delta.header.blocks_full:
            _refuse_without_frames(delta)
            copies = FullCopies(lambda: _copies(delta, request, targets, notes))
        opened.pop_all()
    return ServedDisk(delta, copies, cache or new_cache(), own_cache=cache is None, reporter=notes, order=order)


def _copies(delta: DeltaReader, request: DiskRequest, targets: TargetSet, reporter: Reporter) -> Generator[FullReader]:
    """Yields copies of the Full. The one beside the Delta comes first: no other target is waited for before the first block."""
    if request.full is None and (beside := full_beside(delta, targets, reporter)) is not None:
        yield beside
    known = copies_in_catalog(request, targets, reporter)
    yield from proven_copies(delta, request.full, targets, reporter, known=known)


def _refuse_without_frames(delta: DeltaReader) -> None:
    if not delta.header.frame_size:
        raise UsageError(
            f"{delta.where}: its Full was not made by phd and is one gzip stream without frames: a block of it can only be read "
            "after all that lie before it",
            remedy="Restore the disk ('phd restore'), and use that. A new Full that 'phd backup' makes can be served.",
        )


class _OneAtATime:
    """A reporter whose notes come one at a time, whichever thread they come from."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._lock = reporter, threading.Lock()
        self.planned, self.progress = reporter.planned, reporter.progress

    def note(self, text: str) -> None:
        with self._lock:
            self._reporter.note(text)
