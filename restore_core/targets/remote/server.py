"""A server for any number of threads: `Pool` lends connections, `Server` repeats calls that failed.

It repeats what is safe to do twice, only after errors that may go away, a few times. Between two tries the pause doubles up to a
limit, and is varied at random, so that a hundred clients do not come back at the same moment. A stream goes on at the first byte
that was not delivered. Two things are not repeated: a rename whose answer was lost (it may have happened), and an upload (its bytes
are gone). The `stop` of the target set is called while a thread waits here.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from threading import Event
from typing import TypeAlias, TypeVar

from restore_core.capabilities import Capabilities
from restore_core.errors import PhdError, Stopped, TargetUnavailable
from restore_core.targets.base import Buffer, FileStat, Range, ServerLimits, Stop
from restore_core.targets.remote.connection import Budget, Connection, FolderContent, KnownFile, TooManyConnections, Upload
from restore_core.targets.remote.pending import PendingRanges

_Result = TypeVar("_Result")
_Folder: TypeAlias = tuple[str, FolderContent]
_TOGETHER = 16
"""Folders that are waited for at a time, as many as an SFTP server is asked for in one message: a thread for each would be slow."""
_LOOK_EVERY = 0.25
_TRIES_FOR_A_PLACE = 4


def run_interruptibly(work: Callable[[], _Result], stop: Stop | None) -> _Result:
    """Runs `work` in a thread; gives up when `stop()` raises, which is asked every quarter of a second.

    Without a `stop` it is a plain call. A thread that is left behind ends at its own deadline, or with the process: it holds a
    connection and nothing else.
    """
    if stop is None:
        return work()
    stop()
    result: Future[_Result] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            result.set_exception(error)

    # Not an executor's thread: the process would wait for that one at its end.
    threading.Thread(target=run, name="interruptible", daemon=True).start()
    while not wait([result], timeout=_LOOK_EVERY).done:
        stop()
    return result.result()


def first_interruptibly(items: Generator[_Result], stop: Stop | None) -> Generator[_Result]:
    """Yields `items`. Waits for the first one, which may need a new connection, as `run_interruptibly` does.

    When it is closed, it closes `items`, unless a thread was left behind in there.
    """
    first = run_interruptibly(lambda: next(items, None), stop)
    if first is None:
        return
    try:
        yield first
        yield from items
    finally:
        items.close()


class Pool:
    """Lends connections to any number of threads. `disconnect` ends what all connections have in common.

    Where the server lets in no more, an idle connection is lent that a stream has left between two ranges.
    """

    def __init__(self, name: str, connect: Callable[[], Connection], disconnect: Callable[[], None] = lambda: None) -> None:
        self._name, self._connect, self._disconnect = name, connect, disconnect
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._lent: dict[Connection, Event | None] = {}
        self._streams: dict[Connection, object] = {}
        self._closed = False

    @contextlib.contextmanager
    def lend(self, path: str | None = None, over: Event | None = None, stream: object | None = None) -> Iterator[Connection]:
        """Lends a connection, best the one that `stream` had last, or one on which the file `path` is open.

        It is cut once `over` is set and `interrupt` is called. It is kept for `stream` until `end_stream`.
        """
        connection = self._take_idle(path, stream) or self._connect_or_share()
        with self._lock:
            self._lent[connection] = over
            if stream is not None:
                self._streams[connection] = stream
            if self._closed or (over is not None and over.is_set()):
                connection.abort()
        try:
            yield connection
        finally:
            with self._lock:
                del self._lent[connection]
                keep = connection.usable and not self._closed
                if keep:
                    self._idle.append(connection)
                else:
                    self._streams.pop(connection, None)
            if not keep:
                connection.close()

    def end_stream(self, stream: object) -> None:
        """Lets others have the connection that was kept for a stream."""
        with self._lock:
            self._streams = {connection: kept for connection, kept in self._streams.items() if kept is not stream}

    def interrupt(self, over: Event) -> None:
        """Cuts the connections that were lent with this event."""
        with self._lock:
            for connection, event in self._lent.items():
                if event is over:
                    connection.abort()

    def close(self) -> None:
        """Closes idle connections, cuts those in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._lent:
                connection.abort()
        for connection in idle:
            connection.close()
        self._disconnect()

    def _connect_or_share(self) -> Connection:
        try:
            return self._connect()
        except TooManyConnections:
            with self._lock:
                if not self._idle:
                    raise
                return self._idle.pop(0)

    def _take_idle(self, path: str | None, stream: object | None) -> Connection | None:
        """Takes the connection that has this file open, else the one used last: its server is the least likely to have ended it."""
        with self._lock:
            if self._closed:
                raise TargetUnavailable(f"target {self._name}: was closed")
            self._idle = [c for c in self._idle if c.alive()]
            mine = [c for c in self._idle if stream is not None and self._streams.get(c) is stream]
            free = mine or [c for c in self._idle if c not in self._streams]
            if not free:
                return None
            best = next((c for c in free if path is not None and c.holds == path), free[-1])
            self._idle.remove(best)
            return best


class Server:
    """The calls of `Connection`, for any number of threads. `close` from another thread ends a pause, and no more tries follow."""

    def __init__(
        self, pool: Pool, limits: ServerLimits, *, stop: Stop | None = None, sleep: Callable[[float], object] | None = None
    ) -> None:
        self._pool, self._limits, self._stop = pool, limits, stop
        self._closed = Event()
        self._sleep = sleep or self._closed.wait

    def entries(self, folder: str, budget: Budget) -> FolderContent:
        """Lists a folder; repeated from its start."""
        return self._repeat(lambda connection: connection.entries(folder, budget))

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[_Folder]:
        """Lists folders; goes on with the folder after the last one that was delivered."""
        left, failures = deque(folders), 0
        while True:
            try:
                listed = self._walk_once(tuple(left), budget)
                over = False
                while not over:
                    some, error = run_interruptibly(partial(_some, listed), self._stop)
                    for following in some:
                        while left.popleft() != following[0]:  # those between were deleted
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
        """Returns size and time of a file; repeated."""
        return self._repeat(lambda connection: connection.stat(path))

    def ranges(self, path: str, known: KnownFile, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        """Yields the bytes of ranges, until `over` is set; goes on with the range that was not delivered.

        After `ServerLimits.progress` bytes, all tries may be used again.
        """
        pending = PendingRanges(wanted)
        failures = moved = 0
        while True:
            try:
                items = self._ranges_once(path, known, pending.rest(), over)
                with contextlib.closing(first_interruptibly(items, self._stop)) as found:
                    for data in found:
                        pending.delivered()
                        moved += len(data)
                        yield data
                return
            except PhdError as error:
                failures = 1 if moved >= self._limits.progress else failures + 1
                moved = 0
                if error is pending.failed or over.is_set():
                    raise
                self._pause_or_raise(error, failures)

    @contextlib.contextmanager
    def upload(self, path: str) -> Iterator[Upload]:
        """Lends a connection for a new file; not repeated once it takes bytes. On an error the upload is abandoned."""
        with contextlib.ExitStack() as stack:
            upload = self._begun_in_time(stack, path)
            try:
                yield upload
            except BaseException:
                upload.abandon()
                raise

    def capabilities(self) -> Capabilities:
        """Returns what the server is known to do."""
        return self._repeat(lambda connection: connection.capabilities())

    def make_folder(self, path: str) -> None:
        """Makes a folder; repeated."""
        self._repeat(lambda connection: connection.make_folder(path))

    def give_name(self, path: str, to: str) -> None:
        """Renames a file; not repeated."""
        with self._pool.lend() as connection:
            connection.give_name(path, to)

    def remove_folder(self, path: str) -> None:
        """Removes a folder in which nothing is; repeated."""
        self._repeat(lambda connection: connection.remove_folder(path))

    def remove(self, path: str) -> None:
        """Deletes a file; repeated."""
        self._repeat(lambda connection: connection.remove(path))

    def interrupt(self, over: Event) -> None:
        """Cuts the reads that were begun with this event, which is set; they are not tried again."""
        self._pool.interrupt(over)

    def close(self) -> None:
        """Closes all connections; reads and pauses in other threads end with an error."""
        self._closed.set()
        self._pool.close()

    def _walk_once(self, folders: tuple[str, ...], budget: Budget) -> Iterator[_Folder]:
        with self._pool.lend() as connection:
            if not _is_shared(connection):
                yield from connection.walk(folders, budget)
                return
        for folder in folders:
            with self._pool.lend() as connection:
                found = list(connection.walk((folder,), budget))
            yield from found

    def _begun_in_time(self, stack: contextlib.ExitStack, path: str) -> Upload:
        """Begins a new file; waits, as between two tries, while the server cannot: no byte of it is lost yet."""
        failures = 0
        while True:
            try:
                with contextlib.ExitStack() as attempt:
                    connection = attempt.enter_context(self._pool.lend())
                    if failures:  # what an attempt may have left
                        connection.remove(path)
                    upload = connection.upload(path)
                    stack.push(attempt.pop_all())
                    return upload
            except PhdError as error:
                failures += 1
                self._pause_or_raise(error, failures)

    def _ranges_once(self, path: str, known: KnownFile, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        with self._pool.lend(path, over) as connection:
            if not _is_shared(connection):
                yield from connection.ranges(path, known, wanted)
                return
        stream = object()
        try:
            for each in wanted:
                with self._pool.lend(path, over, stream) as connection:
                    (data,) = connection.ranges(path, known, iter((each,)))
                yield data
        finally:
            self._pool.end_stream(stream)

    def _repeat(self, work: Callable[[Connection], _Result]) -> _Result:
        def once() -> _Result:
            with self._pool.lend() as connection:
                return work(connection)

        failures = 0
        while True:
            try:
                return run_interruptibly(once, self._stop)
            except PhdError as error:
                failures += 1
                self._pause_or_raise(error, failures)

    def _pause_or_raise(self, error: PhdError, failures: int) -> None:
        tries = self._limits.tries
        if isinstance(error, TooManyConnections):  # the last command's own connection may not be forgotten there yet
            tries = max(tries, _TRIES_FOR_A_PLACE)
        if isinstance(error, Stopped) or not error.try_again or failures >= tries or self._closed.is_set():
            raise error
        pause = min(self._limits.longest_pause, self._limits.first_pause * 2 ** (failures - 1))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        run_interruptibly(lambda: self._sleep(pause), self._stop)


def _is_shared(connection: Connection) -> bool:
    return getattr(connection, "shared_between_ranges", False)


def _some(listed: Iterator[_Folder]) -> tuple[list[_Folder], PhdError | None]:
    """Returns the next folders of a listing, and the error that ended it. One thread waits for all of them: a thread costs time."""
    some: list[_Folder] = []
    try:
        for folder in itertools.islice(listed, _TOGETHER):
            some.append(folder)  # noqa: PERF402 - one by one: those before an error count
    except PhdError as error:
        return some, error
    return some, None
