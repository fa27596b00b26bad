"""Decoded units, bounded in bytes, with the threads that decode. Whoever wants a unit that is being decoded waits for that one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from restore_core.errors import PhdError

_Key: TypeAlias = tuple[int, Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The bytes of a unit; `offset` is where on the disk they begin. Blocks in `bad` could not be verified, and are never served.

    Only blocks that the map takes from this unit may be read of it: the others were not checked.
    """

    offset: int
    data: memoryview
    bad: Mapping[int, PhdError] = field(default_factory=dict)


class FrameCache:
    """Keeps the units that were used last, at most `limit` bytes of them. Several disks may share one."""

    def __init__(self, limit: int, threads: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Future[Decoded]] = OrderedDict()
        self._coming: dict[_Key, Future[Decoded]] = {}
        self._dropped: set[int] = set()
        self._held = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.threads = threads
        self.decoded = 0
        """Number of units that were decoded."""

    def get(self, owner: int, unit: Hashable, make: Callable[[], Decoded]) -> Future[Decoded]:
        """Returns the unit of a disk, or the promise of it: `make` is run in a thread unless that was begun before.

        A failure is not kept: the next one who asks begins again.
        """
        key = (owner, unit)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
            known = self._coming.get(key)
            if known is not None:
                return known
            made = self._coming[key] = self._pool.submit(make)
        made.add_done_callback(partial(self._came, key))
        return made

    def holds(self, owner: int, unit: Hashable) -> bool:
        """Whether the unit is kept, or is being decoded."""
        key = (owner, unit)
        with self._lock:
            return key in self._kept or key in self._coming

    def drop(self, owner: int) -> None:
        """Drops what is of one disk; waits for what is being decoded of it."""
        with self._lock:
            self._dropped.add(owner)
            coming = [made for (of, _), made in self._coming.items() if of == owner]
        for made in coming:
            made.cancel()
        wait(coming)
        with self._lock:
            for key in [key for key in self._kept if key[0] == owner]:
                self._held -= len(self._kept.pop(key).result().data)

    def close(self) -> None:
        """Begins nothing any more, and waits for what is being decoded."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _came(self, key: _Key, made: Future[Decoded]) -> None:
        with self._lock:
            del self._coming[key]
            if made.cancelled() or made.exception() is not None:
                return
            self.decoded += 1
            if key[0] in self._dropped:
                return
            self._kept[key] = made
            self._held += len(made.result().data)
            while self._held > self.limit and self._kept:
                _, oldest = self._kept.popitem(last=False)
                self._held -= len(oldest.result().data)
