"""Work that is watched: it runs in a thread of its own, tells how far it is, and hears when it shall end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from phd_daemon.console.face import Stop

T = TypeVar("T")
_REDRAW_EVERY = 0.25
_PRINT_EVERY = 5.0


class Watched(Generic[T]):
    """The `Stop` that the work gets, and the thread it runs in.

    `redraw` draws a line over the last one; where that cannot be (None), a line is printed with `say` every 5 s. While a
    question stands on the screen (`pause`), lines that stay are kept for later and progress is not drawn.
    """

    def __init__(self, work: Callable[[Stop], T], *, redraw: Callable[[str], None] | None, say: Callable[[str], None]) -> None:
        self._work, self._redraw, self._say = work, redraw, say
        self._thread = threading.Thread(target=self._run, name="watched")
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._paused, self._asked = False, False
        self._kept: list[str] = []
        self._drawn, self._last, self._at = "", "", time.monotonic()
        self._result: list[T] = []
        self._error: BaseException | None = None

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

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ended(self, *, within: float) -> bool:
        """Whether the work has ended, after waiting for that at most `within` seconds."""
        return self._done.wait(within)

    def result(self) -> T:
        """What the work returned; raises what it raised. Draws the last line once more, which stays."""
        self._thread.join()
        if self._last:
            self._draw()
            if self._redraw:
                self._say("")
        if self._error is not None:
            raise self._error
        return self._result[0]

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

    def _run(self) -> None:
        try:
            self._result.append(self._work(self))
        except BaseException as error:  # noqa: BLE001  raised again by `result`, where somebody can catch it
            self._error = error
        finally:
            self._done.set()

    def _stay(self, line: str) -> None:
        if self._drawn and self._redraw:
            self._say("")
        self._say(line)
        self._drawn = ""

    def _draw(self) -> None:
        (self._redraw or self._say)(self._last)
        self._drawn = self._last
