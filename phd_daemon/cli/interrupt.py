"""Stopping a command in the foreground: ^C, a closed terminal, `kill`. It ends at the next block and cleans up behind it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from phd_daemon.cli import show
from restore_core.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """The `Stop` of a command in the foreground."""

    def __init__(self) -> None:
        self._told = False

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The handler: the work hears of it at its next block."""
        if not self._told and number == signal.SIGINT:
            show.complain("stopping; nothing half-made will stay")
        self._told = True

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
