"""Retry, as a wrapper round a `Server`: only what is safe to do twice, only after errors that may heal, a few times.

Between two tries the pause doubles, is capped, and is jittered, so that a hundred clients do not come back in step. A
stream goes on at the first byte that was not delivered. What is not repeated: a rename whose answer was lost (it may have
happened) and an upload in progress (its source has gone by). Who waits here may be told to stop, by the `stop` of the target set.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from threading import Event
from typing import TypeAlias, TypeVar

from restore_core.errors import PhdError, Stopped
from restore_core.targets.base import Buffer, FileStat, Range, ServerLimits, Stop
from restore_core.targets.remote.interruptible import attended, begun
from restore_core.targets.remote.server import Budget, Inside, Server, Upload

_Result = TypeVar("_Result")
_Folder: TypeAlias = tuple[str, Inside]
_TOGETHER = 16
"""Folders that are waited for at a time, as many as an SFTP server is asked for in one message: a thread for each is dear."""


def _some(listed: Iterator[_Folder]) -> tuple[list[_Folder], PhdError | None]:
    """The next folders of a listing, and the error that ended it: somebody who waits for them waits in a thread, and those cost."""
    some: list[_Folder] = []
    try:
        for folder in itertools.islice(listed, _TOGETHER):
            some.append(folder)  # noqa: PERF402 - one by one: those before an error count
    except PhdError as error:
        return some, error
    return some, None


class Retrying:
    """A `Server` that tries again. `close` from another thread ends a pause at once, and no more tries follow."""

    def __init__(
        self, inner: Server, limits: ServerLimits, *, stop: Stop | None = None, sleep: Callable[[float], object] | None = None
    ) -> None:
        self._inner, self._limits, self._stop = inner, limits, stop
        self._closed = Event()
        self._sleep = sleep or self._closed.wait

    def entries(self, folder: str, budget: Budget) -> Inside:
        """Tried again from the folder's start."""
        return self._again(lambda: self._inner.entries(folder, budget))

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[_Folder]:
        """Goes on with the folder after the last one that was delivered."""
        left, failures = deque(folders), 0
        while True:
            try:
                listed = iter(self._inner.walk(tuple(left), budget))
                over = False
                while not over:
                    some, error = attended(partial(_some, listed), self._stop)
                    for following in some:
                        while left.popleft() != following[0]:  # those between were gone
                            pass
                        failures = 0
                        yield following
                    if error is not None:
                        raise error
                    over = len(some) < _TOGETHER
                return
            except PhdError as error:
                failures += 1
                self._pause_or_raise(error, failures)

    def stat(self, path: str) -> FileStat:
        """Tried again."""
        return self._again(lambda: self._inner.stat(path))

    def ranges(self, path: str, stat: FileStat, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        """Goes on with the range that was not delivered. Moving `ServerLimits.progress` bytes restores all tries."""
        plan = _Plan(wanted)
        failures = moved = 0
        while True:
            try:
                with closing(begun(self._inner.ranges(path, stat, plan.rest(), over), self._stop)) as found:
                    for data in found:
                        plan.delivered()
                        moved += len(data)
                        yield data
                return
            except PhdError as error:
                failures = 1 if moved >= self._limits.progress else failures + 1
                moved = 0
                if error is plan.failed or over.is_set():
                    raise
                self._pause_or_raise(error, failures)

    def upload(self, path: str) -> Upload:
        """Not repeated."""
        return self._inner.upload(path)

    def make_folder(self, path: str) -> None:
        """Tried again."""
        self._again(lambda: self._inner.make_folder(path))

    def give_name(self, path: str, to: str) -> None:
        """Not repeated."""
        self._inner.give_name(path, to)

    def remove(self, path: str) -> None:
        """Tried again."""
        self._again(lambda: self._inner.remove(path))

    def interrupt(self, over: Event) -> None:
        """No more tries of these reads; `over` is set."""
        self._inner.interrupt(over)

    def close(self) -> None:
        """No more tries."""
        self._closed.set()
        self._inner.close()

    def _again(self, work: Callable[[], _Result]) -> _Result:
        failures = 0
        while True:
            try:
                return attended(work, self._stop)
            except PhdError as error:
                failures += 1
                self._pause_or_raise(error, failures)

    def _pause_or_raise(self, error: PhdError, failures: int) -> None:
        if isinstance(error, Stopped) or not error.try_again or failures >= self._limits.tries or self._closed.is_set():
            raise error
        pause = min(self._limits.longest_pause, self._limits.first_pause * 2 ** (failures - 1))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - a jitter, no secret
        attended(lambda: self._sleep(pause), self._stop)


class _Plan:
    """Ranges that were asked for and not yet delivered, and those still to come."""

    def __init__(self, wanted: Iterator[Range]) -> None:
        self._wanted = wanted
        self._asked: deque[Range] = deque()
        self.failed: BaseException | None = None
        """The error of the iterator itself: it is not the server's, and trying again would find the iterator at its end."""

    def rest(self) -> Iterator[Range]:
        """From the first range that was not delivered."""
        yield from tuple(self._asked)
        while True:
            try:
                following = next(self._wanted)
            except StopIteration:
                return
            except BaseException as error:
                self.failed = error
                raise
            self._asked.append(following)
            yield following

    def delivered(self) -> None:
        """The first of them arrived."""
        self._asked.popleft()
