"""The copies of a Full for a disk that is served: one is read; the others stand in where it is bad or does not answer.

They are found, proven and put in order as for a restore (`restore.fulls`). Another copy is looked for when a block of those that
are open cannot be had, and stays open until the disk is closed: a file that is deleted meanwhile can still be read then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from restore_core.archive.full_reader import FullReader
from restore_core.errors import PhdError

_SEARCH_AGAIN = 600.0
"""Seconds after a search that found no further copy until the next one: a disk is served for days, and a person may bring one."""


class FullCopies:
    """The opened copies, the best first. Any threads may use it."""

    def __init__(self, search: Callable[[], Generator[FullReader]]) -> None:
        """Opens the first copy. Raises what `search` raises: there is no copy, or no target that may hold one answers."""
        self._search = search
        self._lock, self._searching = threading.Lock(), threading.Lock()
        self._found: Generator[FullReader] | None = search()
        self._open = [next(self._found)]
        self._not_before = 0.0

    def each(self) -> Iterator[FullReader]:
        """Yields copy after copy; those that are not open yet are looked for when the ones before did not do."""
        known = self.opened()
        yield from known
        while (further := self._next(known)) is not None:
            known.append(further)
            yield further

    def opened(self) -> list[FullReader]:
        """Returns the copies that are open, the best first."""
        with self._lock:
            return list(self._open)

    def put_last(self, full: FullReader) -> None:
        """Reads the other copies before this one, which did not answer."""
        with self._lock:
            self._open.remove(full)
            self._open.append(full)

    def close(self) -> None:
        """Closes all copies. Waits for the end of a search."""
        with self._searching, self._lock:
            self._not_before = float("inf")
            if self._found is not None:
                self._found.close()
                self._found = None
            for full in self._open:
                full.source.close()

    def _next(self, seen: Sequence[FullReader]) -> FullReader | None:
        """Returns a copy that the caller has not seen; None if there is none. Readers of open copies do not wait for this."""
        with self._searching:
            for full in self.opened():
                if full not in seen:
                    return full
            if self._found is None:
                if time.monotonic() < self._not_before:
                    return None
                self._found = self._search()
            further = self._further(self._found)
            if further is None:
                self._found = None
                self._not_before = time.monotonic() + _SEARCH_AGAIN
                return None
            with self._lock:
                self._open.append(further)
            return further

    def _further(self, found: Generator[FullReader]) -> FullReader | None:
        """Returns a copy that is not open yet. What ends the search is no error here: that of the block says more."""
        known = {full.source.ref for full in self.opened()}
        try:
            for full in found:
                if full.source.ref not in known:
                    return full
                full.source.close()
        except PhdError:
            pass
        return None
