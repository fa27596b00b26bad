"""A `Target` on top of a `Server`: what is the same for FTP and SFTP. Which server, and how, is put together in `make_target`.

Writing: everything goes to `.phd-….phd-part` in the archive's folder and is renamed when the server has all of it. A Full is sent
as it is made. Anything else may be written out of order (the head of a Delta is known last), so it is finished in a file
without a name in `staging_dir` and sent as a whole; that can be tried again, a Full cannot.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Generator, Iterator, Sequence
from threading import Event
from types import TracebackType
from typing import IO, Self

from restore_core.errors import ArchiveAbsent, BadArchive, PhdError, TargetUnavailable, from_os_error
from restore_core.naming import ArchiveType, parse_archive, printable
from restore_core.targets.base import (
    NEW_FILE_SUFFIX,
    ArchiveRef,
    Buffer,
    FileStat,
    ListedFile,
    NewFile,
    Range,
    ServerLimits,
    TargetSpec,
    raise_if_empty,
    safe_parts,
)
from restore_core.targets.gaps import Gap, GapKind, link_gap, may_be_backups, refuse_partial
from restore_core.targets.remote.connection import Budget, CutShort, Entry, FolderContent, Upload
from restore_core.targets.remote.server import Server

_SEND = 1 << 20


class RemoteSource:
    """An archive on a server. Any number of threads may read; each read has a connection of its own meanwhile."""

    def __init__(self, server: Server, ref: ArchiveRef, stat: FileStat) -> None:
        self._server, self._ref, self.stat = server, ref, stat
        self._over = Event()

    @property
    def ref(self) -> ArchiveRef:
        """Where it lies."""
        return self._ref

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self.stat.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. One range alone costs round trips: what follows an order is better read by `ranges`."""
        with contextlib.closing(self._checked_ranges(iter([(offset, length)]), self._over)) as found:
            return bytes(next(found))

    def stream(self, offset: int = 0, length: int | None = None, *, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of a range, in order, resumed where they broke off."""
        end = self.size if length is None else offset + length
        pieces = ((at, min(chunk, end - at)) for at in range(offset, end, chunk))
        with contextlib.closing(self._checked_ranges(pieces, self._over)) as found:
            for data in found:
                yield bytes(data)

    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        """As the contract says."""
        return self._checked_ranges(wanted, self._over)

    def interrupt(self) -> None:
        """Cut the connections on which other threads read this archive."""
        over, self._over = self._over, Event()
        over.set()
        self._server.interrupt(over)

    def close(self) -> None:
        """Nothing is held but by an open iterator, and that is given up."""
        self.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _checked_ranges(self, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        try:
            yield from self._server.ranges(self._ref.path, self.stat, self._inside(wanted), over)
        except CutShort as error:
            raise self._short(error.position) from error

    def _inside(self, wanted: Iterator[Range]) -> Iterator[Range]:
        for offset, length in wanted:
            if offset < 0 or length < 0 or offset + length > self.size:
                raise self._short(self.size, offset + length)
            yield offset, length

    def _short(self, position: int, needed: int | None = None) -> BadArchive:
        return BadArchive(
            f"{self._ref}: the file ends at {position}, {self.size if needed is None else needed} bytes are needed",
            remedy="The archive is truncated or still being copied. Bring it again, or restore from another copy.",
        )


class RemoteTarget:
    """A folder on a server. `secure` is False where passwords and bytes travel in clear text."""

    def __init__(self, spec: TargetSpec, server: Server, limits: ServerLimits) -> None:
        self.spec = spec
        self._server, self._limits = server, limits

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        """Files in the folders of this target, and those at its root."""
        found: list[Gap] = [] if gaps is None else gaps
        budget = Budget(self.spec.name, self._limits)
        top = self._top(budget)
        found += _gaps("", top)
        yield from _files("", top.entries)
        folders = sorted(entry.name for entry in top.entries if entry.folder and not entry.name.startswith("."))
        doubtful: list[tuple[str, FolderContent]] = []
        for folder, inside in self._server.walk(folders, budget):
            if inside.may_be_gone:
                doubtful.append((folder, inside))
                continue
            found += _gaps(folder, inside)
            if top.lists_itself and not inside.lists_itself and not inside.entries and not inside.missing:
                found.append(Gap(path=folder, kind=GapKind.UNREADABLE, why="the server tells no name in it, not even its own"))
            yield from _files(folder, inside.entries)
        if doubtful:  # gone since its name was told, or not to be entered: FTP has one answer for both
            there = {entry.name for entry in self._top(budget).entries if entry.folder}
            found += [gap for folder, inside in doubtful if folder in there for gap in _gaps(folder, inside)]
        if gaps is None:
            refuse_partial(self.spec.name, found)

    def stat(self, path: str) -> FileStat:
        """Size and time of one file."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        safe_parts(path, ref)
        try:
            return self._server.stat(path)
        except ArchiveAbsent:
            self._check_root()
            raise

    def open(self, path: str) -> RemoteSource:
        """One archive."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        safe_parts(path, ref)
        try:
            stat = self._server.stat(path)
        except ArchiveAbsent as error:
            raise_if_empty(self.spec, (entry.name for entry in self._top(Budget(self.spec.name, self._limits)).entries), error)
            raise
        return RemoteSource(self._server, ref, stat)

    def create(self, path: str) -> NewFile:
        """A new archive; missing folders are made, the target's own folder never."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = safe_parts(path, ref)
        self._check_root()
        for count in range(1, len(folders) + 1):
            self._server.make_folder("/".join(folders[:count]))
        part = "/".join((*folders, f".phd-{secrets.token_hex(8)}{NEW_FILE_SUFFIX}"))
        place = _Place(server=self._server, ref=ref, part=part)
        known = parse_archive(name)
        if known is not None and known.type is ArchiveType.FULL:
            return SentFile(place)
        return StagedFile(place, self.spec.staging_dir, self._limits)

    def close(self) -> None:
        """Hang up."""
        self._server.close()

    def _check_root(self) -> None:
        self._top(Budget(self.spec.name, self._limits))

    def _top(self, budget: Budget) -> FolderContent:
        """What is in the target's own folder."""
        try:
            return self._server.entries("", budget)
        except ArchiveAbsent as error:
            raise self._no_root(error) from error

    def _no_root(self, error: ArchiveAbsent) -> TargetUnavailable:
        return TargetUnavailable(
            f"target {self.spec.name} ({printable(self.spec.url)}): its folder is not there: {error.message}",
            remedy="URL paths are absolute on the server. Is the file system mounted there?",
        )


class _Place:
    """Where a new file comes to lie: first under its part name, then under its own."""

    def __init__(self, *, server: Server, ref: ArchiveRef, part: str) -> None:
        self._server, self.ref, self._part = server, ref, part

    def begin(self) -> Upload:
        """An empty part file."""
        return self._server.upload(self._part)

    def settle(self) -> None:
        """Its final name; `FileExistsError` if that is taken."""
        self._server.give_name(self._part, self.ref.path)

    def clear(self) -> None:
        """Remove the part file, if the server can still be reached."""
        with contextlib.suppress(PhdError):
            self._server.remove(self._part)


class SentFile:
    """A `NewFile` that is sent as it is written."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._upload: Upload | None = place.begin()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        if self._upload is not None:
            self._upload.write(data)

    def write_at(self, data: bytes, offset: int) -> None:
        """A server takes bytes in order."""
        raise PhdError(f"{self._place.ref}: {len(data)} bytes for offset {offset} of a file that is sent as it is written")

    def publish(self) -> None:
        """Complete, then under its name."""
        if self._upload is not None:
            try:
                self._upload.finish()
                self._place.settle()
            except BaseException:
                self.discard()
                raise
            self._upload = None

    def discard(self) -> None:
        """Remove what was sent."""
        if self._upload is not None:
            self._upload.abandon()
            self._upload = None
            self._place.clear()


class StagedFile:
    """A `NewFile` that is finished here and then sent."""

    def __init__(self, place: _Place, folder: str, limits: ServerLimits) -> None:
        self._place, self._limits, self._folder = place, limits, folder
        try:
            self._file: IO[bytes] | None = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by discard
        except OSError as error:
            raise from_os_error(
                error, doing="cannot hold a Delta before it is sent (backup.staging_dir)", where=printable(folder)
            ) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        if self._file is not None:
            self._keep(self._file, data)

    def write_at(self, data: bytes, offset: int) -> None:
        """Overwrite; the end does not move."""
        if self._file is not None:
            end = self._file.tell()
            self._file.seek(offset)
            self._keep(self._file, data)
            self._file.seek(end)

    def publish(self) -> None:
        """Send it, again from its start if the line breaks; then give it its name."""
        if self._file is None:
            return
        try:
            for left in reversed(range(self._limits.tries)):
                try:
                    self._send(self._file)
                    break
                except PhdError as error:
                    self._place.clear()
                    if not error.try_again or not left:
                        raise
            self._place.settle()
        except BaseException:
            self._place.clear()
            raise
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop the staged bytes."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _send(self, file: IO[bytes]) -> None:
        file.seek(0)
        upload = self._place.begin()
        try:
            while data := file.read(_SEND):
                upload.write(data)
            upload.finish()
        finally:
            upload.abandon()

    def _keep(self, file: IO[bytes], data: bytes | bytearray | memoryview) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise from_os_error(
                error, doing="holding a Delta before it is sent (backup.staging_dir)", where=printable(self._folder)
            ) from error


def _files(folder: str, entries: Sequence[Entry]) -> Iterator[ListedFile]:
    for entry in sorted(entries, key=lambda entry: entry.name):
        if not entry.folder and not entry.link and not entry.name.endswith(NEW_FILE_SUFFIX):
            yield ListedFile(path=f"{folder}/{entry.name}" if folder else entry.name, stat=entry.stat)


def _gaps(folder: str, inside: FolderContent) -> Iterator[Gap]:
    """What a folder does not tell, and the links in it behind which backups may lie."""
    for kind, why in inside.missing:
        yield Gap(path=folder, kind=kind, why=why)
    for entry in inside.entries:
        if entry.link and may_be_backups(folder, entry.name):
            yield link_gap(folder, entry.name)
