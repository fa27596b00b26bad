"""Stopping a command in the foreground: ^C, a closed terminal, `kill`. It ends at the next block and cleans up behind it.

A second ^C does not wait for the next block: it ends what is being waited for, and what is half-made is removed then too. Not while
a disk is changed in place: from there on nothing is stopped, and it does not take long.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from phd_daemon.show import output
from restore_core.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """The `Stop` of a command in the foreground."""

    def __init__(self) -> None:
        self._told = False
        self.must_go_on: Callable[[], bool] = lambda: False
        """Whether the work is where it cannot be stopped."""

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The handler: the work hears of it at its next block. Raises `KeyboardInterrupt` for ^C after anything else."""
        again, self._told = self._told, True
        if number != signal.SIGINT:
            return
        if self.must_go_on():
            output.complain("the disk is being changed in place: this is finished first")
            return
        if again:
            raise KeyboardInterrupt
        output.complain("stopping; nothing half-made will stay")

    def __call__(self) -> None:
        """Raise `Stopped` when a signal came."""
        if self._told:
            raise Stopped("interrupted: nothing was left behind")


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """While this is open, signals are answered between two blocks and not in the middle of one."""
    interrupt = Interrupt()
    before = {number: signal.signal(number, interrupt.on_signal) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
