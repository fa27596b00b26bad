"""The main loop's sleep, ended by changes in the spool, by signals and by ended workers; and the guard around each of its steps."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
from collections.abc import Iterable, Iterator
from types import FrameType

from phd_daemon.spool.events import BugFound, Event, OnEvent

_log = logging.getLogger(__name__)


class Guard:
    """Keeps an unexpected error in one step, or with one job, from ending the daemon or another step; reports it as `BugFound`.

    Typed errors are handled where they are expected. What is left is a bug of ours, or a spool in a state nobody thought of. Were
    it to end the daemon, the same job would end the next one, too.
    """

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    @contextlib.contextmanager
    def __call__(self, step: str, job: str = "") -> Iterator[None]:
        """Catches every exception that is raised inside, but not what ends a process: signals, `sys.exit`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  that is what it is for
            message = "a bug of ours, or something unheard of; all else goes on"
            self._on_event(BugFound(error=error, message=message, step=step, name=job))


def observer_that_cannot_fail(on_event: OnEvent) -> OnEvent:
    """Returns an observer whose errors are only logged: nobody who listens can stop the daemon."""

    def observe(event: Event) -> None:
        try:
            on_event(event)
        except Exception:  # noqa: BLE001  whatever it is
            _log.exception("an observer of events failed", extra={"of": type(event).__name__})

    return observe


class Sleep:
    """The sleep of the main loop: one `select`. Handlers of signals only note the signal and wake the loop.

    It has open files, so it is made inside the daemon, after any detaching.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._noted: set[signal.Signals] = set()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, self._note)
        # A lease on a file that somebody opens brings SIGIO, which kills by default; see spool.intake.
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def wake(self) -> None:
        """Wakes the loop; may be called from any thread."""
        # A full pipe wakes the loop anyway; a closed one has no loop any more.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._writer, b"\0")

    def wait(self, seconds: float) -> None:
        """Sleeps until something wakes the loop, at most `seconds`."""
        if self._selector.select(max(seconds, 0.0)):
            with contextlib.suppress(BlockingIOError):
                while os.read(self._reader, 4096):
                    pass

    def signals(self) -> frozenset[signal.Signals]:
        """Returns the signals that came since the last call."""
        noted, self._noted = self._noted, set()
        return frozenset(noted)

    def add(self, fd: int) -> None:
        """From now on the loop also wakes when this file becomes readable."""
        self._selector.register(fd, selectors.EVENT_READ)

    def remove(self, fd: int) -> None:
        """Stops waiting for this file; to be called before it is closed."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def close(self) -> None:
        """Closes the files."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._noted.add(signal.Signals(number))
