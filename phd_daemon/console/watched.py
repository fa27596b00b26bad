"""Work in a thread of its own that reports its progress on numbered lines and can be asked to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from phd_daemon.console.face import WorkControl

T = TypeVar("T")
_REDRAW_EVERY = 0.25
_PRINT_EVERY = 5.0


class Watched(Generic[T]):
    """Starts the work, and is the `WorkControl` that it gets.

    `redraw` draws a line over the last one; without it (None) a line is printed with `say` every 5 s. Between `pause` and
    `go_on`, while a question is asked, notes are kept for later and progress is not shown.
    """

    def __init__(
        self, work: Callable[[WorkControl], T], *, redraw: Callable[[str], None] | None, say: Callable[[str], None]
    ) -> None:
        self._redraw, self._say = redraw, say
        self._lock = threading.Lock()
        self._paused, self._asked = False, False
        self._kept: list[str] = []
        self._drawn, self._last, self._at = "", "", time.monotonic()
        self._future = ThreadPoolExecutor(1, thread_name_prefix="watched").submit(work, self)

    @property
    def asked(self) -> bool:
        """True once the person has asked to stop and confirmed it."""
        return self._asked

    def note(self, line: str) -> None:
        """Shows a line that stays."""
        with self._lock:
            if self._paused:
                self._kept.append(line)
            else:
                self._stay(line)

    def report(self, line: str) -> None:
        """Shows a line in the place of the last one, not more often than can be read."""
        with self._lock:
            self._last = line
            now = time.monotonic()
            if not self._paused and now - self._at >= (_REDRAW_EVERY if self._redraw else _PRINT_EVERY):
                self._at = now
                self._draw()

    def ended(self, *, within: float) -> bool:
        """Waits at most `within` seconds for the end of the work; returns whether it has ended."""
        return bool(wait([self._future], within).done)

    def result(self) -> T:
        """Waits for the work; returns what it returned, raises what it raised. The last line is shown and stays."""
        wait([self._future])
        if self._last:
            self._draw()
            if self._redraw:
                self._say("")
        return self._future.result()

    def ask(self) -> None:
        """Asks the work to end."""
        self._asked = True

    def pause(self) -> None:
        """Shows nothing until `go_on`."""
        with self._lock:
            self._paused = True

    def go_on(self) -> None:
        """Shows the notes that were kept, and progress again."""
        with self._lock:
            self._paused, self._drawn = False, ""
            for line in self._kept:
                self._stay(line)
            self._kept.clear()

    def _stay(self, line: str) -> None:
        if self._drawn and self._redraw:
            self._say("")
        self._say(line)
        self._drawn = ""

    def _draw(self) -> None:
        (self._redraw or self._say)(self._last)
        self._drawn = self._last
