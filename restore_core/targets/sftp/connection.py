"""SFTP channels on one SSH connection that all threads share; each channel is for one thread at a time.

A read is a window of requests, each as large as the server takes (OpenSSH: 261,120 bytes). The next ones are on their way
while the first is decoded, so the network is never idle, and never more than the window is held. Loopback: 355 to 396 MB/s.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import tee
from typing import TYPE_CHECKING

from restore_core.capabilities import Capabilities
from restore_core.errors import ArchiveAbsent, PhdError, TargetRefused
from restore_core.targets.base import Address, Buffer, FileStat, Range, ServerLimits, TargetSpec
from restore_core.targets.gaps import GapKind
from restore_core.targets.read_ahead import cut, requests
from restore_core.targets.remote.connection import (
    Bandwidth,
    Budget,
    Connection,
    CutShort,
    FolderContent,
    KnownFile,
    Pace,
    Replaced,
    server_name,
)
from restore_core.targets.sftp.channel import SMALL, begin_sftp, open_channel
from restore_core.targets.sftp.declined import CREATE_NEW, error_of_declined, room_of
from restore_core.targets.sftp.listing import read_folders, reason_of, stat_told
from restore_core.targets.sftp.wire import (
    AnswerType,
    Ask,
    Attributes,
    Declined,
    Fields,
    ProtocolError,
    Status,
    string,
)

if TYPE_CHECKING:
    import paramiko

_WINDOW = 16 << 20
"""Bytes the server may send before we take them. At a distance of 20 ms, 2 MiB would be 80 MB/s at most."""

_MAX_CHUNK = 256 << 10
_NEAR, _FAR = 16, 32
_FAR_SECONDS = 0.005
"""Requests on their way. A server far away gets more, so that their answers fill the line."""

_GAP = 32 << 10
_WRITES = 64
_READ = struct.Struct(">QI")


class SftpConnection(Connection):
    """A `Connection`: one channel. Its constructor opens it."""

    def __init__(
        self, transport: paramiko.Transport, spec: TargetSpec, address: Address, limits: ServerLimits, bandwidth: Bandwidth
    ) -> None:
        super().__init__(spec, address)
        self._transport = transport
        self._open: tuple[str, bytes, FileStat] | None = None
        with self.as_our_errors(""):
            self._channel = open_channel(transport, _WINDOW, limits, server_name(spec, address))
            self._channel.settimeout(limits.idle)
            self.wire = begin_sftp(self._channel, transport, Pace(spec.name, limits, bandwidth), server_name(spec, address))
            began = time.perf_counter()
            self._chunk = self._largest_read()
            self._depth = _FAR if time.perf_counter() - began > _FAR_SECONDS else _NEAR

    @property
    def holds(self) -> str | None:
        """The file that is open."""
        return self._open[0] if self._open else None

    def entries(self, folder: str, budget: Budget) -> FolderContent:
        """Lists a folder by OPENDIR and READDIR, which gives sizes and times with the names."""
        with self.as_our_errors(folder):
            ((_, found),) = read_folders(self.wire, [(folder, self._path(folder))], budget)
            if isinstance(found, Declined):
                raise found
            return found

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[tuple[str, FolderContent]]:
        """Lists several folders at a time on one channel."""
        with self.as_our_errors(""):
            for name, found in read_folders(self.wire, ((name, self._path(name)) for name in folders), budget):
                if not isinstance(found, Declined):
                    yield name, found
                elif found.code != Status.NO_SUCH_FILE:
                    yield name, FolderContent(entries=(), missing=((GapKind.UNREADABLE, reason_of(found)),))

    def stat(self, path: str) -> FileStat:
        """Asks for LSTAT of the file and of the folders on the way to it: no link is followed below the target's folder."""
        with self.as_our_errors(path):
            parts = path.split("/")
            ways = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
            numbers = [self.wire.ask(Ask.LSTAT, string(self._path(way))) for way in ways]
            found = [self.attributes_of(number) for number in numbers]
            if not found[-1].regular or not all(each.folder for each in found[:-1]):
                raise ArchiveAbsent(f"{self.where(path)}: not a regular file", remedy="Links on a target are not followed.")
            return stat_told(found[-1], self.where(path))

    def ranges(self, path: str, known: KnownFile, wanted: Iterator[Range]) -> Generator[Buffer]:
        """Reads with a window of requests; ranges up to 32 KiB apart become one request."""
        with self.as_our_errors(path):
            handle = self._handle(path, known)
            asked, cutting = tee(wanted)
            pieces = self._pieces(path, known.stat, handle, requests(asked, size=self._chunk, gap=_GAP))
        try:
            found = cut(cutting, pieces)
            while True:
                with self.as_our_errors(path):
                    data = next(found, None)
                if data is None:
                    return
                yield data
        finally:
            pieces.close()

    def upload(self, path: str) -> SftpUpload:
        """Begins a new file; never opens an existing one."""
        with self.as_our_errors(path, writing=True):
            handle = self._handle_of(self.wire.ask(Ask.OPEN, string(self._path(path)) + CREATE_NEW))
            return SftpUpload(self, path, handle)

    def make_folder(self, path: str) -> None:
        """Makes a folder by MKDIR. If that fails, LSTAT shows whether it exists. If not, the answer to MKDIR is the reason."""
        with self.as_our_errors(path, writing=True):
            try:
                self.wire.done(self.wire.ask(Ask.MKDIR, string(self._path(path)) + struct.pack(">II", 0x4, 0o700)))
            except Declined as error:
                try:
                    there = self.attributes_of(self.wire.ask(Ask.LSTAT, string(self._path(path))))
                except Declined:
                    raise error from None
                if not there.folder:
                    raise TargetRefused(
                        f"{self.where(path)}: a folder is needed there, and it is something else",
                        remedy="Move it away on the server; links are not followed.",
                    ) from None

    def give_name(self, path: str, to: str) -> None:
        """Renames by RENAME, which must not replace. A server that does so all the same is asked for the name first."""
        with self.as_our_errors(path, writing=True):
            try:
                self.attributes_of(self.wire.ask(Ask.LSTAT, string(self._path(to))))
            except Declined as no:
                if no.code != Status.NO_SUCH_FILE:
                    raise
            else:
                raise FileExistsError(f"{self.where(to)}: the name is taken")
            self.wire.done(self.wire.ask(Ask.RENAME, string(self._path(path)) + string(self._path(to))))

    def remove(self, path: str) -> None:
        """Deletes by REMOVE."""
        with contextlib.suppress(ArchiveAbsent), self.as_our_errors(path):
            self.wire.done(self.wire.ask(Ask.REMOVE, string(self._path(path))))

    def capabilities(self) -> Capabilities:
        """Returns what its extensions tell, and how much room there is. RENAME of version 3 refuses a name that is taken."""
        known = self.wire.extensions
        with self.as_our_errors(""):
            room = room_of(self.wire, self._path(""))
        return Capabilities(
            resume=True,
            exact_listing=True,
            exact_times=True,
            no_replace=True,
            hard_links=b"hardlink@openssh.com" in known,
            symlinks=True,
            syncs=b"fsync@openssh.com" in known,
            free=room.free if room else None,
            writable=False if room and room.read_only else None,
        )

    def alive(self) -> bool:
        """Whether the connection under this channel still stands: if it broke for one channel, it broke for all."""
        return self.usable and bool(self._transport.is_active())

    def remove_folder(self, path: str) -> None:
        """Removes an empty folder by RMDIR, which fails if there is something in it."""
        with self.as_our_errors(path, writing=True):
            self.wire.done(self.wire.ask(Ask.RMDIR, string(self._path(path))))

    def abort(self) -> None:
        """Closes the channel; a thread that waits on it gets an error."""
        self.usable, self._aborted = False, True
        self._channel.close()

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _largest_read(self) -> int:
        """Returns the size of the largest read, which limits@openssh.com tells; without it, what every server must take."""
        if b"limits@openssh.com" not in self.wire.extensions:
            return SMALL
        fields = Fields(self.wire.answer(self.wire.ask(Ask.EXTENDED, string(b"limits@openssh.com")), AnswerType.EXTENDED_REPLY))
        fields.u64()
        return max(4096, min(_MAX_CHUNK, fields.u64() or SMALL))

    def _handle(self, path: str, known: KnownFile) -> bytes:
        """Returns the handle of the file, which is the one that is known."""
        if self._open is not None:
            if (self._open[0], self._open[2]) == (path, known.stat):
                return self._open[1]
            self.wire.drop(self.wire.ask(Ask.CLOSE, string(self._open[1])))
            self._open = None
        handle = self._handle_of(self.wire.ask(Ask.OPEN, string(self._path(path)) + struct.pack(">II", 0x1, 0)))
        now = self.stat_of(path, handle)
        try:
            self.check_same(path, known, now, lambda count: self._first(path, handle, count))
        except Replaced:
            self.wire.drop(self.wire.ask(Ask.CLOSE, string(handle)))
            raise
        self._open = (path, handle, known.stat)
        return handle

    def _first(self, path: str, handle: bytes, count: int) -> bytes:
        """Returns the first bytes of an open file."""
        found = b""
        while len(found) < count:
            data = self.wire.data(self.wire.ask(Ask.READ, string(handle) + _READ.pack(len(found), count - len(found))))
            if not data:
                self.usable = False
                raise CutShort(self.where(path), len(found), count)
            found += data
        return found

    def _pieces(self, path: str, stat: FileStat, handle: bytes, wanted: Iterator[Range]) -> Generator[tuple[int, bytes]]:
        wire, flight = self.wire, deque[tuple[int, int, int]]()
        try:
            while True:
                while len(flight) < self._depth and (ask := next(wanted, None)) is not None:
                    flight.append((wire.ask(Ask.READ, string(handle) + _READ.pack(*ask)), *ask))
                if not flight:
                    return
                number, offset, length = flight.popleft()
                data = wire.data(number)
                while len(data) < length:
                    if not data:
                        self.usable = False
                        raise CutShort(self.where(path), offset, stat.size)
                    yield offset, data
                    # A server may give less than was asked for; what it gave is what it can give.
                    self._chunk = max(4096, min(self._chunk, len(data)))
                    offset, length = offset + len(data), length - len(data)
                    data = wire.data(wire.ask(Ask.READ, string(handle) + _READ.pack(offset, length)))
                yield offset, data
        finally:
            for number, _, _ in flight:
                wire.drop(number)

    def attributes_of(self, number: int) -> Attributes:
        """Returns the attributes that answer a request."""
        return Fields(self.wire.answer(number, AnswerType.ATTRS)).attributes()

    def stat_of(self, path: str, handle: bytes) -> FileStat:
        """Returns size and time of an open file. A size that FSTAT does not tell is asked for by the name."""
        found = self.attributes_of(self.wire.ask(Ask.FSTAT, string(handle)))
        if found.size is None:
            found = self.attributes_of(self.wire.ask(Ask.LSTAT, string(self._path(path))))
        return stat_told(found, self.where(path))

    def _handle_of(self, number: int) -> bytes:
        return Fields(self.wire.answer(number, AnswerType.HANDLE)).text()

    def _path(self, path: str) -> bytes:
        return self._address.below(path).encode("utf-8", "surrogateescape")

    @contextlib.contextmanager
    def as_our_errors(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Raises each error of paramiko and the channel as one of ours. Only an absent file leaves both sides in step."""
        from paramiko import SSHException

        try:
            yield
        except Declined as no:
            raise self._refused(no, path, writing) from no
        except (SSHException, ProtocolError, EOFError, OSError) as error:
            if isinstance(error, FileExistsError):
                raise
            self.usable = False
            if not self._aborted:
                # All channels are on one connection: to open another on a dead one would only wait again.
                self._transport.close()
            raise self.broken(self.where(path), error) from error
        except PhdError as error:
            self.usable = self.usable and isinstance(error, ArchiveAbsent)
            raise

    def _refused(self, no: Declined, path: str, writing: bool) -> PhdError:
        folder = self._path(path.rpartition("/")[0])
        try:
            error = error_of_declined(self.wire, no, self.where(path), folder, writing=writing)
        except (ProtocolError, EOFError, OSError) as broken:
            error = self.broken(self.where(path), broken)
        self.usable = self.usable and isinstance(error, ArchiveAbsent)
        return error


class SftpUpload:
    """An `Upload`, with a window of writes."""

    def __init__(self, connection: SftpConnection, path: str, handle: bytes) -> None:
        self._connection, self._path, self._handle = connection, path, handle
        self._flight = deque[int]()
        self._size = 0

    def write(self, data: Buffer | memoryview) -> None:
        """Sends, and collects the answers to earlier writes."""
        view, wire = memoryview(data), self._connection.wire
        with self._connection.as_our_errors(self._path, writing=True):
            for at in range(0, len(view), SMALL):
                piece = bytes(view[at : at + SMALL])
                self._flight.append(wire.ask(Ask.WRITE, string(self._handle) + struct.pack(">Q", self._size) + string(piece)))
                self._size += len(piece)
                if len(self._flight) >= _WRITES:
                    wire.done(self._flight.popleft())

    def finish(self) -> None:
        """Waits for all answers, makes the file durable if the server can (OpenSSH), and checks its size."""
        connection = self._connection
        wire = connection.wire
        with connection.as_our_errors(self._path, writing=True):
            while self._flight:
                wire.done(self._flight.popleft())
            if b"fsync@openssh.com" in wire.extensions:
                wire.done(wire.ask(Ask.EXTENDED, string(b"fsync@openssh.com") + string(self._handle)))
            there = connection.stat_of(self._path, self._handle).size
            wire.done(wire.ask(Ask.CLOSE, string(self._handle)))
        connection.check_arrived(self._path, there, self._size)

    def abandon(self) -> None:
        """Stops; the channel is not used again."""
        self._connection.usable = False
