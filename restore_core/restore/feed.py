"""The units of a plan in order, each with its compressed bytes. Threads take from it side by side.

A local archive is read by whichever thread has the unit. An archive on a server is read in the order of the plan, as one stream
that runs ahead: the thread whose turn it is waits for its bytes, while the others decode. The plan is walked once more for each
such archive, to know the ranges before their units come; pages of the map are small, and the last few are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.errors import BadArchive, PhdError, Stopped
from restore_core.restore.plan import FullUnit, Unit
from restore_core.targets.base import Range
from restore_core.targets.read_ahead import Fetch, ReadAhead


class Feed:
    """`units` gives a new walk over the plan each time it is called."""

    def __init__(self, units: Callable[[], Iterator[Unit]], delta: DeltaReader, full: FullReader | None) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._units = units()
        self._delta, self._full = delta, full
        self._from_delta = ReadAhead(delta.source, (self._delta_range(unit) for unit in units() if not isinstance(unit, FullUnit)))
        self._from_full = None
        if full is not None:
            self._from_full = ReadAhead(full.source, (self._full_range(unit) for unit in units() if isinstance(unit, FullUnit)))

    def take(self) -> tuple[Unit, Fetch] | None:
        """The next unit, and what gives its bytes; None at the end. Raises what the archives raise."""
        with self._lock:
            if self._over:
                raise Stopped("another thread has failed")
            unit = next(self._units, None)
            if unit is None:
                return None
            if not isinstance(unit, FullUnit):
                return unit, self._from_delta.take(self._delta_range(unit))
            if self._from_full is None:
                raise PhdError(f"{self._delta.where}: a block needs the Full, and no Full was opened")
            return unit, self._from_full.take(self._full_range(unit))

    def interrupt(self) -> None:
        """Whoever waits for a server here gets an error now, and whoever comes after."""
        self._over = True
        self._delta.source.interrupt()
        if self._full is not None:
            self._full.source.interrupt()

    def close(self) -> None:
        """Give the connections back, when no thread takes any more."""
        self._from_delta.close()
        if self._from_full is not None:
            self._from_full.close()

    def _delta_range(self, unit: Unit) -> Range:
        return self._delta.frames_range(unit.offset, unit.length)

    def _full_range(self, unit: FullUnit) -> Range:
        if unit.offset < 0:
            raise BadArchive(
                f"{self._delta.where}: a frame of the page at block {unit.page.first_block} is not in the frame table",
                remedy="Use another copy of this Delta.",
            )
        return unit.offset, unit.length
