"""What every kind of server does for us: the base class of FTP and SFTP connections, and the limits that both keep.

    Connection    one conversation, for one thread at a time      ftp/connection.py, sftp/connection.py
    Server        the same for any number of threads              server.py
    RemoteTarget  a `Target` on top of a Server                   target.py

Paths are relative to the target's URL, "" is its folder; they have passed `safe_parts`. Errors are those of `Target`.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from restore_core.capabilities import Capabilities
from restore_core.errors import TargetRefused, TargetUnavailable, TryAgainLater
from restore_core.naming import MAX_NAME_BYTES, printable
from restore_core.targets.base import Address, Buffer, FileStat, Range, ServerLimits, TargetSpec
from restore_core.targets.gaps import GapKind

_BURST = 0.1
"""Seconds of bandwidth that may come at once: more would not be a limit, less would sleep a thousand times a second."""


class CutShort(TryAgainLater):
    """The bytes of a file ended before the range did. Once, it is the network; if it happens at every try, it is the file."""

    def __init__(self, where: str, position: int, size: int) -> None:
        super().__init__(f"{where}: the transfer ends at {position} of {size} bytes")
        self.position = position


class Replaced(TryAgainLater):
    """A file is not the one that was opened. The next try opens what is there then."""


class TooManyConnections(TargetUnavailable):
    """The server lets in no more connections now: others have to end first."""

    counts_as_try = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a folder. A link is not followed; what is neither file, folder nor link has no entry."""

    name: str
    folder: bool
    stat: FileStat
    link: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class KnownFile:
    """A file on a server that was opened: its size and time, and its first bytes, once they were read: an archive's id is there."""

    stat: FileStat
    first: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderContent:
    """What is in a folder. `missing` are the reasons why that may not be all of it.

    `lists_itself` says that the server listed the folder's own name, `.`, too. `may_be_gone` says that the folder may simply have
    been deleted: FTP has one answer for that and for a folder that may not be entered. `hides_dots` says that names with a dot
    before them were asked for, and none was shown, not even `.`.
    """

    entries: Sequence[Entry]
    missing: tuple[tuple[GapKind, str], ...] = ()
    lists_itself: bool = False
    may_be_gone: bool = False
    hides_dots: bool = False


NOT_EVEN_ITSELF = "the server lists no name in it, not even its own"


def is_single_path_component(name: str) -> bool:
    """Whether a name in a listing can be one name in a folder. Other names are left out: no archive has such a name."""
    size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogateescape"))
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and size <= MAX_NAME_BYTES


class Budget:
    """The most that one listing may cost. It raises and never cuts: backups would look deleted in a part of a listing.

    `hidden` asks for names that begin with a dot, too: some FTP servers leave them out, and no backup has one.
    """

    def __init__(self, name: str, limits: ServerLimits, *, hidden: bool = False) -> None:
        self._name, self._limits, self.hidden = name, limits, hidden
        self._entries = self._bytes = 0
        self._until = time.monotonic() + limits.listing_seconds

    def spend(self, *, entries: int = 0, size: int = 0) -> None:
        """Counts entries and bytes of the listing; raises when a limit is passed, that of the time too."""
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


class Bandwidth:
    """A limit that all connections to one target share. `rate` is bytes a second; 0 is no limit."""

    def __init__(
        self, rate: int, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._lock = threading.Lock()
        self._paid_until = 0.0

    def spend(self, count: int) -> None:
        """Sleeps for as long as `count` more bytes come too early."""
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - _BURST) + count / self._rate
            pause = self._paid_until - now
        if pause > 0:
            self._sleep(pause)


class Pace:
    """Measures the rate of one connection, piece by piece: a rate that is measured per file would hide a slow trickle.

    Only time spent waiting for the server counts. A slow disk on our side, or our own bandwidth limit, does not.
    """

    def __init__(self, name: str, limits: ServerLimits, bandwidth: Bandwidth) -> None:
        self._name, self._limits, self._bandwidth = name, limits, bandwidth
        self._bytes, self._waited = 0, 0.0

    def moved(self, count: int, waited: float) -> None:
        """Counts bytes and the seconds waited for them; raises `TargetUnavailable` after a window below the minimum rate."""
        self._bytes += count
        self._waited += waited
        if self._waited >= self._limits.rate_window:
            rate = self._bytes / self._waited
            self._bytes, self._waited = 0, 0.0
            if rate < self._limits.minimum_rate:
                raise TargetUnavailable(
                    f"target {self._name}: too slow: {rate / 1024:.1f} KB/s over {self._limits.rate_window:.0f} s,"
                    f" at least {self._limits.minimum_rate / 1024:.0f} KB/s are needed",
                    remedy="Look at the server's load and at the network between; the job is tried again later.",
                )
        self._bandwidth.spend(count)


class Upload(Protocol):
    """A new file on the server, written in order."""

    def write(self, data: Buffer | memoryview) -> None:
        """Appends."""

    def finish(self) -> None:
        """Returns when the server has all of it, as durable as the server can make it."""

    def abandon(self) -> None:
        """Stops; the caller deletes what is there."""


class Connection(ABC):
    """One connection to one server. For one thread at a time; only `abort` may come from another.

    It is `usable` while both sides are in step. If they are not, it must be closed.
    """

    shared_between_ranges: bool = False
    """Whether others may use it between two ranges of a stream, so that one connection is enough for all streams."""

    def __init__(self, spec: TargetSpec, address: Address) -> None:
        self._spec, self._address = spec, address
        self.usable = True
        self._aborted = False

    @property
    @abstractmethod
    def holds(self) -> str | None:
        """The file that is open on it: reading on in this file is cheap."""

    @abstractmethod
    def entries(self, folder: str, budget: Budget) -> FolderContent:
        """Lists a folder; `ArchiveAbsent` if there is no such folder, and an error if it may not be read."""

    @abstractmethod
    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[tuple[str, FolderContent]]:
        """Lists each folder, in the same order; leaves out those that were deleted meanwhile.

        A folder that cannot be read, or not to its end, says so in `missing`; the others are listed all the same.
        """

    @abstractmethod
    def stat(self, path: str) -> FileStat:
        """Returns size and time of a regular file, not reached through a link where the server can tell."""

    @abstractmethod
    def ranges(self, path: str, known: KnownFile, wanted: Iterator[Range]) -> Generator[Buffer]:
        """As `ByteSource.ranges`; `Replaced` if the file is not the one that is known, `CutShort` if it ends early."""

    @abstractmethod
    def upload(self, path: str) -> Upload:
        """Begins a new file, in a folder that exists."""

    @abstractmethod
    def make_folder(self, path: str) -> None:
        """Makes a folder; no error if it exists."""

    @abstractmethod
    def give_name(self, path: str, to: str) -> None:
        """Renames a file; `FileExistsError` if the new name is taken."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Deletes a file; no error if it does not exist."""

    def alive(self) -> bool:
        """Whether it may be lent: both sides are in step, and what it has in common with others is not known to be broken."""
        return self.usable

    def capabilities(self) -> Capabilities:
        """Returns what the server is known to do; nothing is written to find out."""
        return Capabilities()

    @abstractmethod
    def remove_folder(self, path: str) -> None:
        """Removes a folder in which nothing is; an error, or nothing, if there is something in it."""

    @abstractmethod
    def abort(self) -> None:
        """Cuts the connection: a thread that waits on it gets an error now."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connection, without waiting for the server."""

    def where(self, path: str) -> str:
        """Returns a file's name for messages."""
        return f"{self._spec.name}:{printable(path)}" if path else f"target {self._spec.name}: its own folder"

    def broken(self, doing: str, error: Exception, prefix: str = "") -> TargetUnavailable:
        """Returns the error for a connection that broke."""
        what = "no answer in time" if isinstance(error, TimeoutError) else printable(str(error)) or "the connection was closed"
        return TargetUnavailable(
            f"{doing}: the connection to {self._address.host}:{self._address.port} broke: {prefix}{what}",
            remedy="Look at the server and the network; 'phd targets' shows what answers.",
        )

    def check_same(self, path: str, known: KnownFile, now: FileStat, first: Callable[[int], bytes]) -> None:
        """Raises `Replaced` for a file that is not the one that was opened. `first` reads so many of its first bytes.

        The time alone does not tell: a server with a write-back cache sets it again after an upload. Where it moved, they do.
        """
        then = known.stat
        if now.size == then.size and (now.mtime == then.mtime or not known.first or first(len(known.first)) == known.first):
            known.stat = now
            return
        raise Replaced(
            f"{self.where(path)}: was replaced meanwhile: {now.size} bytes of {now.mtime:.0f},"
            f" it was {then.size} of {then.mtime:.0f}",
            remedy="What is there now is read by the next try. If this comes again, something keeps writing to that file.",
        )

    def check_arrived(self, path: str, there: int, sent: int) -> None:
        """Raises `TargetUnavailable` if the server does not have all bytes that were sent."""
        if there != sent:
            short = "The server says it took all, and kept less: look at the free space and the quota there, then try again."
            longer = "Something else writes a file of that name: end that, and try again."
            raise TargetUnavailable(
                f"{self.where(path)}: {there} of {sent} bytes arrived", remedy=short if there < sent else longer
            )


def server_name(spec: TargetSpec, address: Address) -> str:
    """Returns how messages name the server of a target."""
    return f"target {spec.name} ({address.host}:{address.port})"


def no_server(where: str, what: str, protocol: str, error: Exception | None = None) -> TargetUnavailable:
    """Returns the error for a server that cannot be reached, or does not speak `protocol`; the advice is by the `error`."""
    return TargetUnavailable(f"{where}: {what or 'closed the connection'}", remedy=_advice(protocol, error))


def _advice(protocol: str, error: Exception | None) -> str:
    match error:
        case socket.gaierror():
            return "Check the name of the host in the target's url: it has no address here (getent hosts NAME)."
        case ConnectionRefusedError():
            return f"That machine is up, and nothing listens there: start its {protocol} server, or correct the port in the url."
        case ConnectionResetError() | BrokenPipeError() | EOFError():
            return f"Something listens there and hangs up: is it an {protocol} server, and does its log say why (limits, bans)?"
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
            return "There is no way to that machine: look at it, and at the route (ip route get ADDRESS)."
        case TimeoutError():
            return f"Is that machine up, and does a firewall let {protocol} through? If it is, does its server hang?"
        case _:
            return f"Is that machine up, does an {protocol} server listen there, and can it be reached from here (firewall, route)?"
