"""The contract of a backup target: a place where archives lie as plain files.

A `Target` is opened for one process and may be used from several threads at once. Paths are relative to the target's
URL, use `/`, and are `str` with surrogate escapes for bytes that are not UTF-8. A path that is absolute or holds `..`
raises `ArchiveAbsent`: nothing outside the URL is ever reached. Rules for every kind:

* *absent* is not *unreachable*: a missing file raises `ArchiveAbsent`, a server that does not answer raises
  `TargetUnavailable`, a temporary error of the transport `TryAgainLater`. An empty listing means an empty folder.
  An archive that is asked for on a target with no file at all raises `TargetEmptied`: a disk that is not mounted looks so.
  A server that answers and refuses us raises `TargetRefused`, one that is not the server we trust `TargetNotTrusted`.
* `listing` yields regular files below the URL, one folder deep (that is where backups lie); links are not followed
  (an FTP server may show one as what it leads to). Times from an FTP server that only knows LIST are rough; `stat` gives the
  exact one.
* a part of a listing is never taken for the whole: a listing is complete, or partial, or it raises. A `Gap` says what is
  missing of a partial one, and why. A caller that passes a list gets all gaps in it, also those that hide no backup. Without a
  list, a listing with a gap that counts ends with `ListingPartial`, after all files that could be read.
* a folder of this machine whose file system is not mounted raises `TargetUnavailable`, and nothing is written to it.
* `open` gives a `ByteSource` whose size is fixed at that moment; a file that changes later raises `BadArchive`:
  `read_at` returns exactly the bytes that were asked for, or raises. `ranges` is the fast way on a server.
* `create` gives a `NewFile` under a temporary name. Only `publish` makes it appear, complete and durable, and never
  over an existing name (`FileExistsError`). Anything else deletes it.

Nothing that is read from a target is trusted: no name, no size, no byte.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol, Self, TypeAlias

from restore_core.capabilities import Capabilities
from restore_core.errors import ArchiveAbsent, TargetEmptied
from restore_core.naming import printable
from restore_core.targets.gaps import Gap

LOCAL = ""
"""The target name of a path of the local file system (`/vmfs/...`, no target)."""

NEW_FILE_SUFFIX = ".phd-part"
"""The end of the temporary name of a `NewFile`. A listing leaves such files out."""

Stop: TypeAlias = Callable[[], None]
"""A stop check: returns to go on, raises `Stopped` when the work must end. Any thread may call it. Its answer never goes back."""


def never_stop() -> None:
    """A stop check that never stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One `[targets.NAME]` of the configuration.

    Stamps in names are in `timezone`. `bandwidth` is the most bytes a second that one process takes; 0 is no limit.
    `key_file` and `password_file` name files: the secrets themselves are never in this record, which is printed and passed on.
    `staging_dir` is where a Delta is finished before it is sent to a server.
    """

    name: str
    url: str
    timezone: str = "UTC"
    key_file: str | None = None
    password_file: str | None = None
    known_hosts: str | None = None
    ca_file: str | None = None
    tls_max: str | None = None
    bandwidth: int = 0
    staging_dir: str = "/var/tmp"  # noqa: S108 - the shipped default; files there have no name while they are used


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A target's URL in parts. `root` is absolute on the server and ends without a slash."""

    scheme: str
    host: str
    port: int
    user: str
    root: str

    def below(self, path: str) -> str:
        """Returns the absolute path of something on this target; "" is the target's own folder."""
        return f"{self.root}/{path}" if path else self.root or "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How long a server may keep us waiting, and how much it may make us hold: seconds, bytes, and bytes a second.

    The defaults are for real servers; tests use shorter ones.
    """

    connect: float = 15.0
    login: float = 30.0
    idle: float = 30.0
    """The longest wait for a single byte. A server that hangs and a network that drops every packet end here."""

    minimum_rate: int = 64 << 10
    rate_window: float = 60.0
    """A connection on which we waited this long for less than `minimum_rate` bytes a second is given up: it might never end."""

    tries: int = 4
    """Attempts at one operation, the first included. A stream that moved `progress` bytes has all of them again."""

    first_pause: float = 0.5
    longest_pause: float = 15.0
    progress: int = 8 << 20

    listing_entries: int = 2_000_000
    listing_bytes: int = 1 << 30
    listing_seconds: float = 900.0


DEFAULT_LIMITS = ServerLimits()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ArchiveRef:
    """One file on one target, as a control file names it: `NAME:path`, or `/path` for a local file."""

    target: str
    path: str

    def __str__(self) -> str:
        return printable(self.path) if self.target == LOCAL else f"{self.target}:{printable(self.path)}"

    @property
    def name(self) -> str:
        """The name of the file, without its folder."""
        return PurePosixPath(self.path).name

    @property
    def folder(self) -> str:
        """The name of the folder that holds the file; empty at the root of a target."""
        return PurePosixPath(self.path).parent.name

    def beside(self, name: str) -> ArchiveRef:
        """Returns the reference of another file in the same folder."""
        return ArchiveRef(target=self.target, path=str(PurePosixPath(self.path).with_name(name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """Size in bytes and modification time in seconds since the epoch (UTC)."""

    size: int
    mtime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One file found by `listing`; `path` is relative to the target's URL."""

    path: str
    stat: FileStat = field(compare=False)


Buffer: TypeAlias = bytes | bytearray
Range: TypeAlias = tuple[int, int]
"""Offset and length, in bytes."""


class ByteSource(ABC):
    """The bytes of one archive, called `ref` in messages; `size` is that at the time of opening. Any threads may use it."""

    ref: ArchiveRef
    size: int

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes from `offset`; raises `BadArchive` when the file ends before."""

    @abstractmethod
    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        """Yields the bytes of each range, exactly, in the order asked for; close the generator to stop early.

        `wanted` is read ahead of what is delivered, by a bounded number of bytes. Ascending ranges are fastest: neighbours
        travel as one stream then.
        """

    def stream(self, offset: int = 0, length: int | None = None, *, chunk: int = 1 << 20) -> Iterator[bytes]:
        """Yields the bytes of a range in order, in pieces of about `chunk`; `length=None` reads to the end."""
        end = self.size if length is None else offset + length
        pieces = ((at, min(chunk, end - at)) for at in range(offset, end, chunk))
        with contextlib.closing(self.ranges(pieces)) as found:
            for data in found:
                yield bytes(data)

    @abstractmethod
    def interrupt(self) -> None:
        """Ends reads that wait in other threads with an error. Later reads work."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NewFile(Protocol):
    """An archive that is being written in order; bytes that were already written can be overwritten."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends."""

    def write_at(self, data: bytes, offset: int) -> None:
        """Overwrites bytes that were already written: the head of a Delta is known last."""

    def publish(self) -> None:
        """Makes it durable, then visible under its name; `FileExistsError` if the name is taken."""

    def discard(self) -> None:
        """Deletes it; does nothing after `publish`."""


class Target(Protocol):
    """A place where archives lie. The contract is at the top of this module."""

    @property
    def spec(self) -> TargetSpec:
        """The configuration that it was opened from."""

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        """Yields all files in the folders of this target. Adds what is missing to `gaps`, or raises `ListingPartial` at the end."""

    def stat(self, path: str) -> FileStat:
        """Returns size and time of one file."""

    def open(self, path: str) -> ByteSource:
        """Opens one archive for reading."""

    def create(self, path: str) -> NewFile:
        """Begins a new archive; makes missing folders."""

    def capabilities(self) -> Capabilities:
        """Returns what it can do, as far as that is known without writing to it."""

    def close(self) -> None:
        """Closes all connections to it."""


def raise_if_empty(spec: TargetSpec, names: Iterable[str], error: ArchiveAbsent) -> None:
    """Raises `TargetEmptied` if a target on which an archive is absent holds nothing at all: its disk may not be mounted."""
    if not any(not name.startswith(".") and name != "lost+found" for name in names):
        raise TargetEmptied(
            f"{error.message}; target {spec.name} ({printable(spec.url)}) holds nothing at all: is it mounted?",
            remedy="Mount it, and try again.",
        ) from error


def safe_parts(path: str, ref: ArchiveRef) -> tuple[str, ...]:
    """Returns the parts of a path relative to a target; raises `ArchiveAbsent` for one that could leave the target."""
    parts = tuple(path.split("/"))
    if path.startswith("/") or not path or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ArchiveAbsent(f"{ref}: not a path below a target", remedy="Use NAME:folder/file, as 'phd backups' prints it.")
    return parts
