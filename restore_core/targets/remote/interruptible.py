"""Waiting for a server that may never answer, by somebody who may be told to stop meanwhile.

What waits is a thread of its own; who asked looks every quarter of a second whether to stop. A thread that is left waiting ends
with its own deadline, or with the process: it holds a connection and nothing else.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

_Result = TypeVar("_Result")

Stop: TypeAlias = Callable[[], None]
"""Raises `Stopped` when the work must end. May be asked from any thread, and stays with its answer."""

_LOOK_EVERY = 0.25


def go_on() -> None:
    """The `Stop` of who is never told to."""


def attended(work: Callable[[], _Result], stop: Stop | None) -> _Result:
    """What `work` gives or raises; or what `stop` raises, at once. Without a `stop`, no more than a call."""
    if stop is None:
        return work()
    stop()
    answers: queue.SimpleQueue[tuple[_Result, None] | tuple[None, BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asked
            answers.put((None, error))

    threading.Thread(target=run, name="attended", daemon=True).start()
    while True:
        try:
            result, error = answers.get(timeout=_LOOK_EVERY)
        except queue.Empty:
            stop()
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # without an error it is the result, which may itself be None


def begun(items: Generator[_Result], stop: Stop | None) -> Generator[_Result]:
    """`items`; the first, for which a connection may have to be made, is waited for as `attended` does it.

    Closed, it closes `items`, unless a thread was left waiting in there.
    """
    first = attended(lambda: next(items, None), stop)
    if first is None:
        return
    try:
        yield first
        yield from items
    finally:
        items.close()
