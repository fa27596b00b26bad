"""What every kind of server can do for us: the small Protocol that FTP and SFTP implement, and its pool of connections.

    Connection    one conversation, for one thread at a time             ftp.py, sftp.py
    Server        the same for any number of threads                     Pool here; retry.py wraps it
    RemoteTarget  a `Target` on top of a Server                          remote.py

Paths are relative to the target's URL, "" is its folder; they have passed `safe_parts`. Errors are those of `Target`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from restore_core.errors import TargetRefused, TargetUnavailable, TryAgainLater
from restore_core.naming import MAX_NAME_BYTES
from restore_core.targets.base import Buffer, FileStat, Range, ServerLimits
from restore_core.targets.gaps import GapKind


class CutShort(TryAgainLater):
    """The bytes of a file ended before the range did. Once it is the network, again and again it is the file."""

    def __init__(self, where: str, position: int, size: int) -> None:
        super().__init__(f"{where}: the transfer ends at {position} of {size} bytes")
        self.position = position


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a folder. A link is not followed; everything else that is neither file nor folder is left out."""

    name: str
    folder: bool
    stat: FileStat
    link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What is in a folder. `missing` are the reasons why that may not be all of it.

    `itself` says that the server told the folder's own name, `.`, too. `gone` says that the folder may simply not be there any
    more: FTP has one answer for that and for one that may not be entered.
    """

    entries: Sequence[Entry]
    missing: tuple[tuple[GapKind, str], ...] = ()
    itself: bool = False
    gone: bool = False


def honest(name: str) -> bool:
    """Whether a name in a listing can be one name in a folder. What is not is passed over: no archive has such a name."""
    size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogateescape"))
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and size <= MAX_NAME_BYTES


class Budget:
    """What one listing may cost in all. Raises instead of cutting: a part of a listing would look like backups that are gone."""

    def __init__(self, name: str, limits: ServerLimits) -> None:
        self._name, self._limits = name, limits
        self._entries = self._bytes = 0
        self._until = time.monotonic() + limits.listing_seconds

    def spend(self, *, entries: int = 0, size: int = 0) -> None:
        """Count entries and bytes of the listing, and look at the clock."""
        self._entries += entries
        self._bytes += size
        limits = self._limits
        if self._entries > limits.listing_entries:
            self._refuse(f"more than {limits.listing_entries} entries")
        if self._bytes > limits.listing_bytes:
            self._refuse(f"longer than {limits.listing_bytes} bytes")
        if time.monotonic() > self._until:
            raise TargetUnavailable(
                f"target {self._name}: its listing took more than {limits.listing_seconds:.0f} s",
                remedy="Look at the server; is the URL's folder the one that holds the backups?",
            )

    def _refuse(self, why: str) -> None:
        raise TargetRefused(
            f"target {self._name}: its listing is {why}",
            remedy="Is the URL's folder the one that holds the backups, and only them?",
        )


class Upload(Protocol):
    """A new file on the server, written in order."""

    def write(self, data: Buffer | memoryview) -> None:
        """Append."""

    def finish(self) -> None:
        """All of it is there, as durable as the server can make it."""

    def abandon(self) -> None:
        """Stop; what is there is removed by the caller. Harmless after `finish`."""


class Connection(Protocol):
    """One conversation with one server. For one thread at a time; only `abort` may come from another."""

    @property
    def holds(self) -> str | None:
        """The file that is open on it and cheap to read on."""

    @property
    def usable(self) -> bool:
        """False once anything was left in doubt: it must be closed then."""

    def entries(self, folder: str, budget: Budget) -> Inside:
        """What is in a folder; `ArchiveAbsent` if there is no such folder, and an error if it may not be read."""

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[tuple[str, Inside]]:
        """What is in each folder, in the same order; those that are gone meanwhile are left out.

        One that cannot be read, or not to its end, says so in `missing`, and keeps none of the others from being listed.
        """

    def stat(self, path: str) -> FileStat:
        """A regular file, not reached through a link where the server can tell."""

    def ranges(self, path: str, stat: FileStat, wanted: Iterator[Range]) -> Generator[Buffer]:
        """As `ByteSource.ranges`; `BadArchive` if the file is not the one `stat` was taken of, `CutShort` if it ends early."""

    def upload(self, path: str) -> Upload:
        """A new file, in a folder that is there."""

    def make_folder(self, path: str) -> None:
        """Make it; no error if it is there."""

    def give_name(self, path: str, to: str) -> None:
        """Give a file its name; `FileExistsError` if that is taken."""

    def remove(self, path: str) -> None:
        """Remove a file; no error if it is not there."""

    def abort(self) -> None:
        """Cut the line: whoever waits on it gets an error now."""

    def close(self) -> None:
        """Say goodbye, briefly."""


class Server(Protocol):
    """As `Connection`, for any number of threads."""

    def entries(self, folder: str, budget: Budget) -> Inside:
        """As `Connection`."""

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[tuple[str, Inside]]:
        """As `Connection`."""

    def stat(self, path: str) -> FileStat:
        """As `Connection`."""

    def ranges(self, path: str, stat: FileStat, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        """As `Connection`, until `over` is set; `interrupt` wakes a read that waits."""

    def upload(self, path: str) -> Upload:
        """As `Connection`."""

    def make_folder(self, path: str) -> None:
        """As `Connection`."""

    def give_name(self, path: str, to: str) -> None:
        """As `Connection`."""

    def remove(self, path: str) -> None:
        """As `Connection`."""

    def interrupt(self, over: Event) -> None:
        """Cut the reads that were begun with this event."""

    def close(self) -> None:
        """Hang up; reads and pauses in other threads end with an error."""


class Pool:
    """A `Server`: hands each call a connection that nobody uses, and opens another when there is none."""

    def __init__(self, name: str, connect: Callable[[], Connection], hang_up: Callable[[], None] = lambda: None) -> None:
        self._name, self._connect, self._hang_up = name, connect, hang_up
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._lent: dict[Connection, Event | None] = {}
        self._closed = False

    def entries(self, folder: str, budget: Budget) -> Inside:
        """What is in a folder."""
        with self._lend() as connection:
            return connection.entries(folder, budget)

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[tuple[str, Inside]]:
        """The entries of each folder."""
        with self._lend() as connection:
            yield from connection.walk(folders, budget)

    def stat(self, path: str) -> FileStat:
        """A regular file."""
        with self._lend() as connection:
            return connection.stat(path)

    def ranges(self, path: str, stat: FileStat, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        """The connection is given back when the iterator ends or is closed."""
        with self._lend(path, over) as connection:
            yield from connection.ranges(path, stat, wanted)

    def upload(self, path: str) -> Upload:
        """The connection is lent until the upload ends."""
        lend = self._lend()
        connection = lend.__enter__()
        try:
            return _LentUpload(connection.upload(path), lend)
        except BaseException as error:
            lend.__exit__(type(error), error, error.__traceback__)
            raise

    def make_folder(self, path: str) -> None:
        """No error if it is there."""
        with self._lend() as connection:
            connection.make_folder(path)

    def give_name(self, path: str, to: str) -> None:
        """`FileExistsError` if the name is taken."""
        with self._lend() as connection:
            connection.give_name(path, to)

    def remove(self, path: str) -> None:
        """No error if it is not there."""
        with self._lend() as connection:
            connection.remove(path)

    def close(self) -> None:
        """Say goodbye on idle connections, cut those in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._lent:
                connection.abort()
        for connection in idle:
            connection.close()
        self._hang_up()

    def interrupt(self, over: Event) -> None:
        """Cut the reads that were begun with this event."""
        with self._lock:
            for connection, event in self._lent.items():
                if event is over:
                    connection.abort()

    @contextlib.contextmanager
    def _lend(self, path: str | None = None, over: Event | None = None) -> Iterator[Connection]:
        connection = self._idle_one(path) or self._connect()
        with self._lock:
            self._lent[connection] = over
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
            if not keep:
                connection.close()

    def _idle_one(self, path: str | None) -> Connection | None:
        """Best the one that has this file open already; else the one used last, whose server has not forgotten it yet."""
        with self._lock:
            if self._closed:
                raise TargetUnavailable(f"target {self._name}: was closed")
            if not self._idle:
                return None
            best = next((c for c in self._idle if path is not None and c.holds == path), self._idle[-1])
            self._idle.remove(best)
            return best


class _LentUpload:
    """An upload that gives its connection back when it ends."""

    def __init__(self, inner: Upload, lend: contextlib.AbstractContextManager[Connection]) -> None:
        self._inner, self._lend = inner, lend
        self._over = False

    def write(self, data: Buffer | memoryview) -> None:
        """Append."""
        self._inner.write(data)

    def finish(self) -> None:
        """All of it is there."""
        self._inner.finish()
        self._end()

    def abandon(self) -> None:
        """Stop."""
        if not self._over:
            self._inner.abandon()
            self._end()

    def _end(self) -> None:
        self._over = True
        self._lend.__exit__(None, None, None)


def replaced(where: str, then: FileStat, now: FileStat) -> str:
    """The text for a file that is not the one that was looked at."""
    return f"{where}: was replaced meanwhile: {now.size} bytes of {now.mtime:.0f}, it was {then.size} of {then.mtime:.0f}"
