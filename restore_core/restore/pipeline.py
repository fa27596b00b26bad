"""The fast path: fetch > decode > verify > write, on as many threads as there are cores, and a few more that wait for the disk.

Each thread takes the next unit of the plan, fetches its compressed bytes, decodes them (libdeflate, GIL released), checks
the digest of each block (BLAKE3, GIL released) and only then writes it (`pwrite`, GIL released): verify before write, with
no queue and no copy in between. A Full that something else wrote has no frames to pick from: it is decoded as one
stream by one thread, which checks and writes its blocks, while the others work on the Delta.

Memory: one unit a thread, at most 16 pages of the plan (about 300 KB each), whatever the size of the disk; and for each archive
on a server what is on its way (`read_ahead`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import Buffer
from restore_core.archive.frames import decode
from restore_core.archive.full_reader import FullReader, block_length, check_block, frame_plain_size
from restore_core.archive.index_map import BLOCKS_PER_PAGE, FULL, MapPage
from restore_core.disk.scan import is_zero
from restore_core.disk.sink import Sink
from restore_core.errors import BadArchive, PhdError, from_os_error
from restore_core.restore.plan import CopyFailed, DeltaUnit, Feed, FullUnit, failing_copy, walk
from restore_core.restore.request import Phase, PlanSummary, Progress, Reporter
from restore_core.restore.survey import Survey
from restore_core.targets.base import Stop
from restore_core.targets.read_ahead import Fetch

_TICK = 0.25
"""Seconds between two reports of progress, and between two calls of `stop`."""
_WAITING = 3
"""Threads beside those that decode, where a write waits for the disk. 4 GiB on two cores: with one more 1.30 s, with three 1.15,
with six 1.21."""


@dataclass(slots=True)
class Moved:
    """Bytes of the disk written so far, from the Delta and from the Full."""

    delta: int = 0
    full: int = 0


class Pipeline:
    """Writes the blocks of `delta` (and `full`) into a sink; every byte of it is verified first.

    `verify` writes nothing: its sink compares. With a `survey` only the blocks that it wants are fetched.
    """

    def __init__(
        self,
        delta: DeltaReader,
        full: FullReader | None,
        sink: Sink | None,
        *,
        where: str,
        survey: Survey | None = None,
        in_disk_order: bool = False,
        wanted: Callable[[MapPage], bytes] | None = None,
    ) -> None:
        """`wanted` may call zero blocks FULL: then the Full must hold zeros there, too, and all of its frames are decoded."""
        self._delta, self._full, self._sink, self._where = delta, full, sink, where
        self._threads = min(4, len(os.sched_getaffinity(0))) + (_WAITING if sink is not None and sink.waits else 0)
        self._wanted: Callable[[MapPage], bytes] = wanted or (survey.wanted if survey is not None else lambda page: page.kinds)
        self._whole = whole = wanted is not None
        self._header = delta.header
        self._moved = Moved()
        self._lock = threading.Lock()
        self._feed = Feed(walk(delta, self._wanted, in_disk_order=in_disk_order, every_frame=whole), delta, full)
        self.refuse_if_over = self._feed.refuse_if_over
        """Raises `Stopped` in a thread when another one has failed."""

    def run(self, tick: Callable[[Moved], None], stop: Stop) -> None:
        """Do all of it; `tick` and `stop` are called a few times a second from the calling thread.

        Raises the first error any thread met (`CopyFailed` for one of the Full, `BlockMismatch`, `BadArchive`, destination errors)
        or `Stopped`.
        """
        jobs: list[Callable[[], None]] = [self._drain] * self._threads
        if self._full is not None and not self._header.frame_size:
            jobs.append(self._drain_stream)
        try:
            with ThreadPoolExecutor(len(jobs), thread_name_prefix="phd") as pool:
                self._attend({pool.submit(job) for job in jobs}, tick, stop)
        finally:
            self._feed.close()

    def _attend(self, working: set[Future[None]], tick: Callable[[Moved], None], stop: Stop) -> None:
        try:
            while working:
                done, working = wait(working, _TICK, FIRST_EXCEPTION)
                for one in done:
                    self._raise_error_of(one)
                tick(self._moved)
                stop()
        except BaseException:
            self._feed.interrupt()
            raise

    def _raise_error_of(self, one: Future[None]) -> None:
        try:
            one.result()
        except OSError as error:
            raise from_os_error(error, doing="writing", where=self._where) from error

    def _drain(self) -> None:
        while (taken := self._feed.take()) is not None:
            unit, fetch = taken
            if isinstance(unit, FullUnit):
                with failing_copy():
                    self._full_unit(unit, fetch)
            else:
                self._delta_unit(unit, fetch)

    def _full_unit(self, unit: FullUnit, fetch: Fetch) -> None:
        if self._full is None:
            raise PhdError(f"{self._where}: a block needs the Full, and no Full was opened")
        header, first = self._header, unit.page.first_block
        per_frame = header.frame_size // header.block_size
        number = first // per_frame + unit.frame
        where = f"{self._full.where}: frame {number}"
        plain = memoryview(decode(fetch(), frame_plain_size(self._delta, number), where))
        start = number * header.frame_size
        run_from = run_to = moved = 0
        for index in unit.blocks:
            at = (first + index) * header.block_size - start
            length = block_length(header.disk_size, header.block_size, first + index)
            if not unit.page.kinds[index]:
                refuse_data(plain[at : at + length], self._delta.where, first + index)
                continue
            check_block(self._delta, unit.page, index, plain[at : at + length], self._full.where)
            if at != run_to:
                self._write(plain[run_from:run_to], start + run_from)
                run_from = at
            run_to = at + length
            moved += length
        self._write(plain[run_from:run_to], start + run_from)
        self._count(full=moved)

    def _delta_unit(self, unit: DeltaUnit, fetch: Fetch) -> None:
        header, first = self._header, unit.page.first_block
        members = memoryview(fetch())
        at = moved = 0
        for index, length in zip(unit.blocks, unit.lengths, strict=True):
            block = first + index
            size = block_length(header.disk_size, header.block_size, block)
            plain = decode(members[at : at + length], size, f"{self._delta.where}: block {block}")
            check_block(self._delta, unit.page, index, plain, self._delta.where)
            self._write(plain, block * header.block_size)
            at += length
            moved += size
        self._count(delta=moved)

    def _drain_stream(self) -> None:
        """A Full without frames: every block of it passes by, to its end; those that are wanted are checked and written."""
        if self._full is None:
            return
        pieces = _pieces(self._full.disk(self._header.full_disk_size), self._header.block_size)
        for block, page, data in _stream_blocks(self._delta, self._full, pieces, self._wanted, whole=self._whole):
            self.refuse_if_over()
            if not page.kinds[block - page.first_block]:
                refuse_data(data, self._delta.where, block)
                continue
            with failing_copy():
                check_block(self._delta, page, block - page.first_block, data, self._full.where)
            self._write(data, block * self._header.block_size)
            self._count(full=len(data))
        with failing_copy():
            for _data in pieces:
                self.refuse_if_over()

    def _write(self, data: Buffer, offset: int) -> None:
        if self._sink is not None and len(data):
            self._sink.write(data, offset)

    def _count(self, *, delta: int = 0, full: int = 0) -> None:
        with self._lock:
            self._moved.delta += delta
            self._moved.full += full


def _stream_blocks(
    delta: DeltaReader, full: FullReader, pieces: Iterator[bytes], wanted: Callable[[MapPage], bytes], *, whole: bool
) -> Iterator[tuple[int, MapPage, bytes]]:
    """Yields (block, its page, its bytes) for every block wanted from a Full without frames, in disk order; not checked.

    Stops after the last one that can come, or, if the `whole` Full is wanted, at the end of the disk.
    Raises `CopyFailed` when the stream ends before.
    """
    header = delta.header
    left = header.blocks if whole else header.blocks_full
    for index in range(delta.pages):
        page = delta.page(index) if left else None
        kinds = wanted(page) if page is not None else b""
        for number in range(min(BLOCKS_PER_PAGE, header.blocks - index * BLOCKS_PER_PAGE)):
            if page is None or not left:
                return
            with failing_copy():
                data = next(pieces, b"")
            left -= page.kinds[number] == FULL
            if kinds[number] != FULL:
                continue
            block = page.first_block + number
            length = block_length(header.disk_size, header.block_size, block)
            if len(data) < length and page.kinds[number]:
                text = f"{full.where}: the disk in it ends before block {block}"
                raise CopyFailed(BadArchive(text, remedy="This is not the Full of that Delta."))
            yield block, page, data[:length]


def refuse_data(data: Buffer, where: str, block: int) -> None:
    """Raises `BadArchive` unless all is zero: a block that is zero on the disk, not in the Full, must be in `runs`."""
    if not is_zero(bytes(data)):
        raise BadArchive(
            f"{where}: section runs: block {block} is zero, the Full holds data there, and no run says so",
            remedy="'phd restore' does not use this list and gives the right disk; 'sh' would refuse. Make a new backup.",
        )


def _pieces(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yields the stream cut into pieces of `size` bytes; the last one may be short."""
    held = bytearray()
    for data in stream:
        held += data
        cut = len(held) - len(held) % size
        with memoryview(held) as view:
            for at in range(0, cut, size):
                yield bytes(view[at : at + size])
        del held[:cut]
    if held:
        yield bytes(held)


class ProgressReport:
    """Turns what the pipeline moved into `Progress`. Zero blocks count as done from the start: they cost nothing."""

    def __init__(self, plan: PlanSummary, reporter: Reporter, started: float, phase: Phase = Phase.RESTORE) -> None:
        self._plan, self._reporter, self._started = plan, reporter, started
        self._moved = Moved()
        self._phase = phase

    def tick(self, moved: Moved) -> None:
        """Report what was moved so far."""
        self._moved = moved
        plan = self._plan
        done = moved.delta + moved.full
        self._reporter.progress(
            Progress(
                phase=self._phase,
                disk_size=plan.disk_size,
                done=plan.zero_bytes + plan.keep_bytes + done,
                moved=done,
                delta_done=moved.delta,
                delta_total=plan.delta_bytes,
                full_done=moved.full,
                full_total=plan.full_bytes,
                started=self._started,
            )
        )

    def phase(self, phase: Phase) -> None:
        """Enter a phase, and report."""
        self._phase = phase
        self.tick(self._moved)
