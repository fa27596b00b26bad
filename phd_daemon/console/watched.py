"""Work that is watched: it runs in a thread of its own, tells how far it is, and hears when it shall end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from phd_daemon.console.face import Stop

T = TypeVar("T")
_REDRAW_EVERY = 0.25
_PRINT_EVERY = 5.0


class Watched(Generic[T]):
    """The `Stop` that the work gets, and the thread it runs in from now on.

    `redraw` draws a line over the last one; where that cannot be (None), a line is printed with `say` every 5 s. While a
    question stands on the screen (`pause`), lines that stay are kept for later and progress is not drawn.
    """

    def __init__(self, work: Callable[[Stop], T], *, redraw: Callable[[str], None] | None, say: Callable[[str], None]) -> None:
        self._redraw, self._say = redraw, say
        self._lock = threading.Lock()
        self._paused, self._asked = False, False
        self._kept: list[str] = []
        self._drawn, self._last, self._at = "", "", time.monotonic()
        self._future = ThreadPoolExecutor(1, thread_name_prefix="watched").submit(work, self)

    @property
    def asked(self) -> bool:
        """True once the person asked for a stop and meant it."""
        return self._asked

    def note(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            if self._paused:
                self._kept.append(line)
            else:
                self._stay(line)

    def report(self, line: str) -> None:
        """A line in the place of the last one, now and then."""
        with self._lock:
            self._last = line
            now = time.monotonic()
            if not self._paused and now - self._at >= (_REDRAW_EVERY if self._redraw else _PRINT_EVERY):
                self._at = now
                self._draw()

    def ended(self, *, within: float) -> bool:
        """Whether the work has ended, after waiting for that at most `within` seconds."""
        return bool(wait([self._future], within).done)

    def result(self) -> T:
        """Waits for the work; returns what it returned, raises what it raised. Draws the last line once more, which stays."""
        wait([self._future])
        if self._last:
            self._draw()
            if self._redraw:
                self._say("")
        return self._future.result()

    def ask(self) -> None:
        """The work shall end."""
        self._asked = True

    def pause(self) -> None:
        """Keep off the screen."""
        with self._lock:
            self._paused = True

    def go_on(self) -> None:
        """Draw again."""
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
