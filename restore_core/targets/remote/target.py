"""A `Target` on top of a `Server`: what is the same for FTP and SFTP.

A new file is written to `phd-….phd-part` in the archive's folder and renamed when the server has all of it. A Full is sent as it
is made. Any other archive may be written out of order (the head of a Delta is known last), so it is finished in a file without a
name in `staging_dir` and sent as a whole. Sending it can be repeated; sending a Full cannot.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from threading import Event
from typing import IO

from restore_core.capabilities import Capabilities
from restore_core.errors import ArchiveAbsent, BadArchive, PhdError, TargetUnavailable, from_os_error
from restore_core.naming import ArchiveType, parse_archive, printable
from restore_core.targets.base import (
    NEW_FILE_SUFFIX,
    ArchiveRef,
    Buffer,
    ByteSource,
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
from restore_core.targets.remote.connection import NOT_EVEN_ITSELF, Budget, CutShort, Entry, FolderContent, KnownFile, Upload
from restore_core.targets.remote.server import Server

_SEND = 1 << 20
_FIRST_BYTES = 512
"""As much of a file as tells it from another: the id of a Full or a Delta is in them."""


class RemoteSource(ByteSource):
    """An archive on a server. Any number of threads may read it; each read borrows a connection."""

    def __init__(self, server: Server, ref: ArchiveRef, stat: FileStat) -> None:
        self._server, self.ref, self.size = server, ref, stat.size
        self._known = KnownFile(stat=stat)
        self._over = Event()

    def read_at(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes. It costs round trips: ranges in order are faster by `ranges`."""
        with contextlib.closing(self.ranges(iter([(offset, length)]))) as found:
            return bytes(next(found))

    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        """Yields the bytes of each range, in order."""
        return self._checked_ranges(wanted, self._over)

    def interrupt(self) -> None:
        """Cuts the connections on which other threads read this archive."""
        over, self._over = self._over, Event()
        over.set()
        self._server.interrupt(over)

    def close(self) -> None:
        """Cuts the connections of iterators that are still open; nothing else is held."""
        self.interrupt()

    def _checked_ranges(self, wanted: Iterator[Range], over: Event) -> Generator[Buffer]:
        begins: deque[bool] = deque()
        try:
            for data in self._server.ranges(self.ref.path, self._known, self._within_size(wanted, begins), over):
                if begins.popleft() and not self._known.first:
                    self._known.first = bytes(data[:_FIRST_BYTES])
                yield data
        except CutShort as error:
            raise self._short(error.position) from error

    def _within_size(self, wanted: Iterator[Range], begins: deque[bool]) -> Iterator[Range]:
        """Yields the ranges that lie within the file; notes for each whether it begins with the first byte."""
        for offset, length in wanted:
            if offset < 0 or length < 0 or offset + length > self.size:
                raise self._short(self.size, offset + length)
            begins.append(offset == 0)
            yield offset, length

    def _short(self, position: int, needed: int | None = None) -> BadArchive:
        return BadArchive(
            f"{self.ref}: the file ends at {position}, {self.size if needed is None else needed} bytes are needed",
            remedy="The archive is truncated or still being copied. Bring it again, or restore from another copy.",
        )


class RemoteTarget:
    """A folder on a server."""

    def __init__(self, spec: TargetSpec, server: Server, limits: ServerLimits) -> None:
        self.spec = spec
        self._server, self._limits = server, limits

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        """Yields the files in the folders of this target, and those at its root."""
        found: list[Gap] = [] if gaps is None else gaps
        budget = Budget(self.spec.name, self._limits)
        top = self._top(budget)
        found += _gaps("", top)
        yield from _files("", top.entries)
        folders = sorted(entry.name for entry in top.entries if entry.folder and not entry.name.startswith("."))
        doubtful: list[tuple[str, FolderContent]] = []
        for folder, content in self._server.walk(folders, budget):
            if content.may_be_gone:
                doubtful.append((folder, content))
                continue
            found += _gaps(folder, content)
            if top.lists_itself and not content.lists_itself and not content.entries and not content.missing:
                found.append(Gap(path=folder, kind=GapKind.UNREADABLE, why=NOT_EVEN_ITSELF))
            yield from _files(folder, content.entries)
        if doubtful:  # deleted since it was listed, or closed to this user: FTP has one answer for both
            there = {entry.name for entry in self._top(budget).entries if entry.folder}
            found += [gap for folder, content in doubtful if folder in there for gap in _gaps(folder, content)]
        if gaps is None:
            refuse_partial(self.spec.name, found)

    def unfinished(self, unseen: list[str]) -> Iterator[ListedFile]:
        """Yields files that never got their names, the time 0 if it is not known; adds to `unseen` what the server may hide."""
        budget = Budget(self.spec.name, self._limits, hidden=True)
        top = self._top(budget)
        hides, folders = True, sorted(entry.name for entry in top.entries if entry.folder and not entry.name.startswith("."))
        for folder, content in itertools.chain([("", top)], self._server.walk(folders, budget)):
            hides = hides and content.hides_dots
            for entry in (one for one in content.entries if not (one.folder or one.link) and one.name.endswith(NEW_FILE_SUFFIX)):
                path = f"{folder}/{entry.name}" if folder else entry.name
                yield ListedFile(path=path, stat=entry.stat if entry.stat.mtime else self._server.stat(path))
        unseen += ["files whose names begin with a dot, as those of older versions: this server shows none"] if hides else []

    def stat(self, path: str) -> FileStat:
        """Returns size and time of one file."""
        safe_parts(path, ArchiveRef(target=self.spec.name, path=path))
        try:
            return self._server.stat(path)
        except ArchiveAbsent:
            self._top()
            raise

    def open(self, path: str) -> RemoteSource:
        """Opens one archive."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        safe_parts(path, ref)
        try:
            stat = self._server.stat(path)
        except ArchiveAbsent as error:
            raise_if_empty(self.spec, (entry.name for entry in self._top().entries), error)
            raise
        return RemoteSource(self._server, ref, stat)

    def create(self, path: str) -> NewFile:
        """Begins a new archive; makes missing folders, but never the target's own folder."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = safe_parts(path, ref)
        there = {entry.name for entry in self._top().entries}
        for count in range(1, len(folders) + 1):
            self._server.make_folder("/".join(folders[:count]))
        made = folders[0] if len(folders) == 1 and folders[0] not in there else None
        part = "/".join((*folders, f"phd-{secrets.token_hex(8)}{NEW_FILE_SUFFIX}"))
        known = parse_archive(name)
        if known is not None and known.type is ArchiveType.FULL:
            return SentFile(self._server, ref, part, made)
        return StagedFile(self._server, ref, part, made, folder=self.spec.staging_dir, tries=self._limits.tries)

    def capabilities(self) -> Capabilities:
        """Returns what the server is known to do."""
        return self._server.capabilities()

    def close(self) -> None:
        """Closes all connections."""
        self._server.close()

    def _top(self, budget: Budget | None = None) -> FolderContent:
        """Lists the target's own folder; raises `TargetUnavailable` if it does not exist."""
        try:
            return self._server.entries("", budget or Budget(self.spec.name, self._limits))
        except ArchiveAbsent as error:
            raise TargetUnavailable(
                f"target {self.spec.name} ({printable(self.spec.url)}): its folder is not there: {error.message}",
                remedy="URL paths are absolute on the server. Is the file system mounted there?",
            ) from error


class _ServerFile:
    """A new file on a server, called `part` until it is whole. `made` is the folder made for it, which goes again if empty."""

    def __init__(self, server: Server, ref: ArchiveRef, part: str, made: str | None = None) -> None:
        self._server, self._ref, self._part, self._made = server, ref, part, made

    def _give_name(self) -> None:
        """Gives it its own name, or deletes it; `FileExistsError` if the name is taken."""
        try:
            self._server.give_name(self._part, self._ref.path)
        except BaseException as error:
            stays = self._delete_part()
            if isinstance(error, PhdError):
                error.message = f"{self._ref}: all of it was sent, and renaming it failed: {error.message}{stays}"
            raise
        self._made = None

    def _remove_made(self) -> None:
        """Removes the folder that was made for this file, if it is empty."""
        made, self._made = self._made, None
        if made is not None:
            with contextlib.suppress(PhdError):
                self._server.remove_folder(made)

    def _delete_part(self) -> str:
        """Deletes what was written, if the server can still be reached and lets us; else returns words that say so."""
        with contextlib.suppress(PhdError):
            self._server.remove(self._part)
            return ""
        return "; its part file stays there, and 'phd doctor' names it after a day"


class SentFile(_ServerFile):
    """A `NewFile` that is sent as it is written, from its first byte on: until then it holds no connection."""

    def __init__(self, server: Server, ref: ArchiveRef, part: str, made: str | None = None) -> None:
        super().__init__(server, ref, part, made)
        self._lent = contextlib.ExitStack()
        self._upload: Upload | None = None
        self._over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends."""
        if not self._over:
            self._begun().write(data)

    def _begun(self) -> Upload:
        if self._upload is None:
            self._upload = self._lent.enter_context(self._server.upload(self._part))
        return self._upload

    def write_at(self, data: bytes, offset: int) -> None:
        """Raises: a server takes bytes in order."""
        raise PhdError(f"{self._ref}: {len(data)} bytes for offset {offset} of a file that is sent as it is written")

    def publish(self) -> None:
        """Completes the file, then gives it its name."""
        if self._over:
            return
        try:
            self._begun().finish()
        except BaseException:
            self.discard()
            raise
        self._upload, self._over = None, True
        self._lent.close()
        self._give_name()

    def discard(self) -> None:
        """Deletes what was sent."""
        self._over = True
        if self._upload is not None:
            self._upload.abandon()
            self._upload = None
            self._lent.close()
            self._delete_part()
        self._remove_made()


class StagedFile(_ServerFile):
    """A `NewFile` that is finished on this machine, in `folder`, and then sent. Sending it is tried `tries` times."""

    def __init__(self, server: Server, ref: ArchiveRef, part: str, made: str | None = None, *, folder: str, tries: int) -> None:
        super().__init__(server, ref, part, made)
        self._folder, self._tries = folder, tries
        try:
            self._file: IO[bytes] | None = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by discard
        except OSError as error:
            self._remove_made()
            raise from_os_error(
                error, doing="cannot hold a Delta before it is sent (backup.staging_dir)", where=printable(folder)
            ) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends."""
        if self._file is not None:
            self._store(self._file, data)

    def write_at(self, data: bytes, offset: int) -> None:
        """Overwrites; the end does not move."""
        if self._file is not None:
            end = self._file.tell()
            self._file.seek(offset)
            self._store(self._file, data)
            self._file.seek(end)

    def publish(self) -> None:
        """Sends it, again from its start if the connection breaks; then gives it its name."""
        if self._file is None:
            return
        try:
            self._send(self._file)
            self._give_name()
        finally:
            self.discard()

    def discard(self) -> None:
        """Deletes the bytes on this machine."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._remove_made()

    def _send(self, file: IO[bytes]) -> None:
        for left in reversed(range(self._tries)):
            try:
                file.seek(0)
                with self._server.upload(self._part) as upload:
                    while data := file.read(_SEND):
                        upload.write(data)
                    upload.finish()
                return
            except BaseException as error:
                self._delete_part()
                if not isinstance(error, PhdError) or not error.try_again or not left:
                    raise

    def _store(self, file: IO[bytes], data: bytes | bytearray | memoryview) -> None:
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


def _gaps(folder: str, content: FolderContent) -> Iterator[Gap]:
    """Yields what is missing of a folder's listing, and the links in it behind which backups may lie."""
    for kind, why in content.missing:
        yield Gap(path=folder, kind=kind, why=why)
    for entry in content.entries:
        if entry.link and may_be_backups(folder, entry.name):
            yield link_gap(folder, entry.name)
