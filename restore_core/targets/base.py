"""What a backup target is: a place where archives lie as plain files. This comment is the contract.

A `Target` is opened for one process and may be used from several threads at once. Paths are relative to the target's
URL, use `/`, and are `str` with surrogate escapes for bytes that are not UTF-8. A path that is absolute or holds `..`
raises `ArchiveAbsent`: nothing outside the URL is ever reached. Rules for every kind:

* *absent* is not *unreachable*: a missing file raises `ArchiveAbsent`, a server that does not answer raises
  `TargetUnavailable`, a temporary error of the transport `TryAgainLater`. An empty listing means an empty folder.
  An archive asked for on a target that holds nothing at all raises `TargetEmptied`: what is not mounted looks so.
  A server that answers and refuses us raises `TargetRefused`, one that is not the server we trust `TargetNotTrusted`.
* `listing` yields regular files below the URL, one folder deep (that is where backups lie); links are not followed
  (an FTP server may show one as what it leads to). On an FTP server that only knows LIST its times are rough; `stat` gives the
  exact one.
* a part of a listing is never taken for the whole: it is complete, or partial, or it raises. What is missing of a partial one,
  and why, is a `Gap`. Who gives a list gets all gaps in it, those that hide no backup too; for who gives none a listing with
  a gap that counts ends with `ListingPartial`, after all that could be read.
* a folder of this machine that is the place of a mount which is not there raises `TargetUnavailable`, and nothing is written.
* `open` gives a `ByteSource` whose size is fixed at that moment; a file that changes later raises `BadArchive` or
  shortens no answer: `read_at` returns exactly the bytes asked for or raises. `ranges` is the fast way on a server.
* `create` gives a `NewFile` under a temporary name; only `publish` makes it appear, complete and durable, and never
  over an existing name (`FileExistsError`). Anything else removes it.

Nothing that is read here is trusted: not a name, not a size, not a byte.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from restore_core.errors import ArchiveAbsent, TargetEmptied
from restore_core.naming import printable
from restore_core.targets.gaps import Gap

LOCAL = ""
"""The name under which paths of the local file system are addressed (`/vmfs/...`, no target)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One `[targets.NAME]` of the configuration. Stamps in names are in `timezone`.

    `bandwidth` is bytes a second that one process takes at most, 0: no limit.

    The files named here hold keys and passwords; none of those ever stands in this record, which is printed and passed on.
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


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ArchiveRef:
    """One file on one target, as a control file names it: `NAME:path`, or `/path` for a local file."""

    target: str
    path: str

    def __str__(self) -> str:
        return printable(self.path) if self.target == LOCAL else f"{self.target}:{printable(self.path)}"

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name

    @property
    def folder(self) -> str:
        """The name of the folder the file lies in; empty at the root of a target."""
        return PurePosixPath(self.path).parent.name

    def beside(self, name: str) -> ArchiveRef:
        """Another file in the same folder."""
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


class ByteSource(Protocol):
    """The bytes of one archive. Safe to use from several threads."""

    @property
    def ref(self) -> ArchiveRef:
        """Where it lies, for messages."""

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`, or `BadArchive` when the file ends before."""

    def stream(self, offset: int = 0, length: int | None = None, *, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of a range in order, in pieces of about `chunk`; `length=None` reads to the end."""

    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        """The bytes of each range, exactly, in the order asked for; close it to stop early.

        `wanted` is read ahead of what is delivered, by a bounded number of bytes. Meant for ascending ranges: neighbours then
        travel as one stream.
        """

    def interrupt(self) -> None:
        """Reads that wait in other threads end with an error now. Later ones work."""

    def close(self) -> None:
        """Give the file back."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class NewFile(Protocol):
    """An archive that is being written: sequentially, with positional repair of what was already written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""

    def write_at(self, data: bytes, offset: int) -> None:
        """Overwrite bytes already written (the head of a Delta is known last)."""

    def publish(self) -> None:
        """Make it durable, then visible under its name; `FileExistsError` if the name is taken."""

    def discard(self) -> None:
        """Remove it; harmless after `publish`."""


class Target(Protocol):
    """See the contract at the top of this module."""

    @property
    def spec(self) -> TargetSpec:
        """What it was made from."""

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        """All files in the folders of this target; what is missing is added to `gaps`, or raises `ListingPartial` at the end."""

    def stat(self, path: str) -> FileStat:
        """Size and time of one file."""

    def open(self, path: str) -> ByteSource:
        """One archive for reading."""

    def create(self, path: str) -> NewFile:
        """A new archive; missing folders are made."""

    def close(self) -> None:
        """Leave the target."""


def refuse_bare(spec: TargetSpec, names: Iterable[str], error: ArchiveAbsent) -> None:
    """Raise `TargetEmptied` where an archive is absent from a target that holds nothing at all: its disk may not be mounted."""
    if not any(not name.startswith(".") and name != "lost+found" for name in names):
        raise TargetEmptied(
            f"{error.message}; target {spec.name} ({printable(spec.url)}) holds nothing at all: is it mounted?",
            remedy="Mount it, and try again.",
        ) from error


def safe_parts(path: str, ref: ArchiveRef) -> tuple[str, ...]:
    """The parts of a path relative to a target, or `ArchiveAbsent` if it could leave the target."""
    parts = tuple(path.split("/"))
    if path.startswith("/") or not path or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ArchiveAbsent(f"{ref}: not a path below a target", remedy="Use NAME:folder/file, as 'phd backups' prints it.")
    return parts
