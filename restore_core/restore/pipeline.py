"""The fast path: fetch > decode > verify > write, on as many threads as there are cores, and a few more that wait for the disk.

Each thread takes the next unit of the plan, fetches its compressed bytes, decodes them (libdeflate, GIL released), checks
the digest of each block (BLAKE3, GIL released) and only then writes it (`pwrite`, GIL released): verify before write, with
no queue and no copy in between. A Full that something else wrote has no frames to pick from; it is decoded as one
stream by one thread, while another checks and writes.

Memory: one unit a thread, a few pages of the map (about 150 KB each), whatever the size of the disk; and for each archive on a
server what is on its way (`read_ahead`). Who fetches when is `feed`'s business.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import Buffer
from restore_core.archive.frames import decode
from restore_core.archive.full_reader import FullReader, block_length, check_block, frame_plain_size
from restore_core.archive.index_map import FULL, MapPage
from restore_core.disk.sink import Sink
from restore_core.errors import PhdError, from_os_error
from restore_core.restore.feed import Feed
from restore_core.restore.foreign import foreign_blocks
from restore_core.restore.plan import DeltaUnit, FullUnit, Unit, unit_bytes, units
from restore_core.restore.request import Stop
from restore_core.restore.survey import Survey
from restore_core.targets.read_ahead import Fetch

TICK = 0.25
"""Seconds between two looks at progress and at the stop sign."""
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

    Without a sink nothing is written: that is `verify`. With a `survey` only the blocks that it wants are fetched.
    """

    def __init__(
        self, delta: DeltaReader, full: FullReader | None, sink: Sink | None, *, where: str, survey: Survey | None = None
    ) -> None:
        self._delta, self._full, self._sink, self._where = delta, full, sink, where
        self._threads = min(4, len(os.sched_getaffinity(0))) + (_WAITING if sink is not None and sink.waits else 0)
        self._wanted: Callable[[MapPage], bytes] = survey.wanted if survey is not None else lambda page: page.kinds
        self._header = delta.header
        self.moved = Moved()
        self._lock = threading.Lock()
        self._failed: BaseException | None = None
        self._facts = lru_cache(maxsize=4)(self._page_facts)
        self._feed = Feed(self._units, delta, full)

    def run(self, tick: Callable[[Moved], None], stop: Stop) -> None:
        """Do all of it; `tick` and `stop` are called a few times a second from the calling thread.

        Raises the first error any thread met (`BlockMismatch`, `BadArchive`, destination errors) or `Stopped`.
        """
        framed = bool(self._header.frame_size) or self._full is None
        jobs: list[Callable[[], None]] = [self._drain] * self._threads
        if not framed:
            jobs.append(self._drain_stream)
        threads = [threading.Thread(target=self._guard, args=(job,), name=f"phd-{n}") for n, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(TICK)
                    tick(self.moved)
                    stop()
        except BaseException as error:
            self._fail(error)
            for thread in threads:
                thread.join()
            raise
        finally:
            self._feed.close()
        if self._failed is not None:
            raise self._failed
        tick(self.moved)
        stop()

    def _units(self) -> Iterator[Unit]:
        per_frame = self._header.frame_size // self._header.block_size
        for index in range(self._delta.pages):
            yield from units(*self._facts(index), per_frame)

    def _page_facts(self, index: int) -> tuple[MapPage, bytes, tuple[list[int], list[int]] | None]:
        page = self._delta.page(index)
        wanted = self._wanted(page)
        uses_frames = self._header.frame_size and wanted.find(FULL) >= 0
        return page, wanted, self._delta.full_frames(index) if uses_frames else None

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            self._fail(from_os_error(error, doing="writing", where=self._where))
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asked, never lost
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._failed is None:
                self._failed = error
        self._feed.interrupt()

    def _drain(self) -> None:
        while self._failed is None:
            taken = self._feed.take()
            if taken is None:
                return
            unit, fetch = taken
            if isinstance(unit, FullUnit):
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
        run_from = run_to = 0
        for index in unit.blocks:
            at = (first + index) * header.block_size - start
            length = block_length(header.disk_size, header.block_size, first + index)
            check_block(self._delta, unit.page, index, plain[at : at + length], self._full.where)
            if at != run_to:
                self._write(plain[run_from:run_to], start + run_from)
                run_from = at
            run_to = at + length
        self._write(plain[run_from:run_to], start + run_from)
        self._count(unit)

    def _write(self, data: Buffer, offset: int) -> None:
        if self._sink is not None and len(data):
            self._sink.write(data, offset)

    def _delta_unit(self, unit: DeltaUnit, fetch: Fetch) -> None:
        header, first = self._header, unit.page.first_block
        members = memoryview(fetch())
        at = 0
        for index, length in zip(unit.blocks, unit.lengths, strict=True):
            block = first + index
            size = block_length(header.disk_size, header.block_size, block)
            plain = decode(members[at : at + length], size, f"{self._delta.where}: block {block}")
            check_block(self._delta, unit.page, index, plain, self._delta.where)
            self._write(plain, block * header.block_size)
            at += length
        self._count(unit)

    def _drain_stream(self) -> None:
        """A Full without frames: every block of it passes by; those the map wants are checked and written."""
        if self._full is None:
            return
        header = self._header
        for block, page, data in foreign_blocks(self._delta, self._full, self._wanted):
            if self._failed is not None:
                return
            check_block(self._delta, page, block - page.first_block, data, self._full.where)
            self._write(data, block * header.block_size)
            with self._lock:
                self.moved.full += len(data)

    def _count(self, unit: Unit) -> None:
        written = unit_bytes(unit, self._header.disk_size, self._header.block_size)
        with self._lock:
            if isinstance(unit, DeltaUnit):
                self.moved.delta += written
            else:
                self.moved.full += written
