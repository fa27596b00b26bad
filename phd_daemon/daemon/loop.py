"""What the main loop sleeps on: the doorbell, signals, and the ends of workers. One `select`, no wake-up for nothing."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Iterable
from types import FrameType


class Sleep:
    """Made inside the daemon, after any detaching: it has open files. Signals only leave a note and wake the loop."""

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._noted: set[signal.Signals] = set()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, self._note)
        # A lease on a file that somebody opens brings SIGIO, which kills by default; see spool.door.
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def ring(self) -> None:
        """Wake the loop; from any thread."""
        # Full: it will wake anyway. Closed: nobody is there any more to be woken.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._writer, b"\0")

    def wait(self, seconds: float) -> None:
        """Sleep until something rings, at most so long."""
        if self._selector.select(max(seconds, 0.0)):
            with contextlib.suppress(BlockingIOError):
                while os.read(self._reader, 4096):
                    pass

    def signals(self) -> frozenset[signal.Signals]:
        """Those that came since the last call."""
        noted, self._noted = self._noted, set()
        return frozenset(noted)

    def add(self, fd: int) -> None:
        """Wake when this file becomes readable, too."""
        self._selector.register(fd, selectors.EVENT_READ)

    def remove(self, fd: int) -> None:
        """No longer; before the file is closed."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def close(self) -> None:
        """Let go of everything."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._noted.add(signal.Signals(number))
