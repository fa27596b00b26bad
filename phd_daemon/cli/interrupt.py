"""Stops a command in the foreground after ^C, `kill` or a closed terminal: it ends at the next block and removes what it began.

A second ^C does not wait for the next block: it ends the call that waits, and unfinished files are removed then, too. While
a disk is changed in place nothing is stopped; that does not take long.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from phd_daemon.host.signals import handled
from phd_daemon.show import output
from restore_core.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """The stop check of a command in the foreground."""

    def __init__(self, saying: str) -> None:
        self._told, self._saying = False, saying
        self.must_go_on: Callable[[], bool] = lambda: False
        """Returns whether the work cannot be stopped now."""

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Handles a signal: the work stops at its next block. Raises `KeyboardInterrupt` for ^C if a signal came before."""
        again, self._told = self._told, True
        if number != signal.SIGINT:
            return
        if self.must_go_on():
            output.complain("the disk is being changed in place: this is finished first")
            return
        if again:
            raise KeyboardInterrupt
        output.complain(self._saying)

    def __call__(self) -> None:
        """Raises `Stopped` if a signal came."""
        if self._told:
            raise Stopped("interrupted: nothing was left behind")


@contextmanager
def interruptible(saying: str = "stopping; unfinished files are removed") -> Iterator[Interrupt]:
    """While this is open, signals take effect between two blocks and not within one. `saying` is what ^C is answered."""
    interrupt = Interrupt(saying)
    with handled(_SIGNALS, interrupt.on_signal):
        yield interrupt
