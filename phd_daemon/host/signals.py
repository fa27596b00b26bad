"""Handles signals for a while, and gives them back to their earlier handlers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """In this context `handler` handles these signals; after it the earlier handlers do. For the main thread."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """In this context ^C does nothing to phd. It is handled and not ignored, so that an editor starts with the default.

    In another thread than the main one it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled((signal.SIGINT,), lambda _number, _frame: None):
        yield
