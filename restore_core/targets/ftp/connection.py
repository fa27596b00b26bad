"""One connection to an FTP server, plain or inside TLS (explicit, RFC 4217), by the standard library's ftplib.

What real servers need: TYPE I first (proftpd knows no SIZE before it). MLSD where FEAT names it, else CWD and a bare LIST,
since LIST of a missing folder is empty without an error (vsftpd), and so is LIST of a path with a space (pure-ftpd). A
data connection must reuse the TLS session of its control connection (vsftpd, proftpd). The address in the answer to PASV
is ignored. After a transfer that we cut the server says 426, 226 or even 150: any reply is accepted, then NOOP shows
whether both sides are in step. A file that ends early ends with 226, too: only its size shows it.

A transfer stays open between two reads: a range that follows closely is read from it, and every other command ends it first.
Names are sent and received as bytes: ftplib uses latin-1, which changes no byte.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ftplib
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator

from restore_core.errors import ArchiveAbsent, PhdError, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import Address, Buffer, FileStat, Range, ServerLimits, TargetSpec
from restore_core.targets.capabilities import Capabilities
from restore_core.targets.ftp.listing import NotAListing, Parsed, Unsure, parse_mdtm, read_list, read_mlsd
from restore_core.targets.ftp.login import log_in
from restore_core.targets.ftp.refusal import SEE_WHAT_THERE_IS, refusal
from restore_core.targets.ftp.replies import Meaning, closed_by, meaning_of, not_all_by
from restore_core.targets.ftp.transfer import Transfer
from restore_core.targets.ftp.upload import FtpUpload
from restore_core.targets.gaps import GapKind, may_be_backups
from restore_core.targets.remote.connection import Bandwidth, Budget, Connection, CutShort, Entry, FolderContent, Pace

_GAP = 1 << 20
"""Up to this many bytes are read and dropped before another transfer is begun, which costs four round trips."""

_PIECE = 256 << 10
_OF_ONE_FOLDER = ("450", "451", "550", "551", "553")
"""Codes of errors that concern only the folder that was asked for."""


class FtpConnection(Connection):
    """A `Connection`. Its constructor connects and logs in."""

    shared_between_ranges = True

    def __init__(self, spec: TargetSpec, address: Address, limits: ServerLimits, bandwidth: Bandwidth) -> None:
        super().__init__(spec, address)
        self._limits = limits
        self.pace = Pace(spec.name, limits, bandwidth)
        self._transfer: Transfer | None = None
        self._mlsd, self._rest, self._size = False, True, True
        self._connect()

    @property
    def holds(self) -> str | None:
        """The file whose transfer is open."""
        return self._transfer.path if self._transfer else None

    def entries(self, folder: str, budget: Budget) -> FolderContent:
        """Lists a folder: CWD, which fails if it does not exist; then MLSD or LIST."""
        with self.as_our_errors(folder):
            return self._content(folder, budget)

    def walk(self, folders: Iterable[str], budget: Budget) -> Iterator[tuple[str, FolderContent]]:
        """Lists the folders one after the other: FTP has no other way."""
        for folder in folders:
            try:
                with self.as_our_errors(folder):
                    found = self._content_or_reason(folder, budget)
            except ArchiveAbsent as error:  # a name that FTP cannot ask for
                found = FolderContent(entries=(), missing=((GapKind.UNKNOWN, error.message),))
            yield folder, found

    def _content_or_reason(self, folder: str, budget: Budget) -> FolderContent:
        try:
            return self._content(folder, budget)
        except (ftplib.error_perm, ftplib.error_temp) as error:
            meaning = meaning_of(error)
            if str(error)[:3] not in _OF_ONE_FOLDER or meaning in (Meaning.BUSY, Meaning.LOGIN, Meaning.NEEDS_TLS):
                raise
            why = f"the server answers: {printable(str(error))}"
            return FolderContent(entries=(), missing=((GapKind.UNREADABLE, why),), may_be_gone=meaning is Meaning.ABSENT)
        except NotAListing as error:
            if not error.ended:
                raise
            return FolderContent(entries=(), missing=((GapKind.UNKNOWN, str(error)),))

    def _content(self, folder: str, budget: Budget) -> FolderContent:
        self._command(f"CWD {self._wire(folder)}")
        if self._mlsd:
            try:
                return self._content_by("MLSD", read_mlsd, folder, budget)
            except ftplib.error_perm as error:
                if meaning_of(error) is not Meaning.NOT_KNOWN:
                    raise
                self._mlsd = False
        return self._content_by("LIST", lambda data: read_list(data, dt.datetime.now(dt.UTC)), folder, budget)

    def stat(self, path: str) -> FileStat:
        """Asks for SIZE and MDTM. The time is 0 on a server without MDTM; one without SIZE is asked for a listing."""
        with self.as_our_errors(path):
            size = self._size_of(path)
            return self._listed_stat(path) if size is None else FileStat(size=size, mtime=self._time_of(path))

    def _size_of(self, path: str) -> int | None:
        """Returns the answer to SIZE; None on a server that does not know it."""
        if not self._size:
            return None
        try:
            return int(self._command(f"SIZE {self._wire(path)}").split()[1])
        except ftplib.error_perm as error:
            if meaning_of(error) is not Meaning.NOT_KNOWN:
                raise
        except (ValueError, IndexError):
            pass
        self._size = False
        return None

    def _time_of(self, path: str) -> float:
        with contextlib.suppress(ftplib.error_perm, ValueError, IndexError):
            return parse_mdtm(self._command(f"MDTM {self._wire(path)}").split()[1])
        return 0.0

    def _listed_stat(self, path: str) -> FileStat:
        folder, _, name = path.rpartition("/")
        content = self._content(folder, Budget(self._spec.name, self._limits))
        for entry in content.entries:
            if entry.name == name and not entry.folder:
                return FileStat(size=entry.stat.size, mtime=self._time_of(path))
        if content.missing:
            raise TargetUnavailable(f"{self.where(path)}: its size is not known: {content.missing[0][1]}")
        raise ArchiveAbsent(f"{self.where(path)}: its folder does not list it", remedy=SEE_WHAT_THERE_IS)

    def ranges(self, path: str, stat: FileStat, wanted: Iterator[Range]) -> Generator[Buffer]:
        """Reads ranges that follow each other closely from one transfer; begins another wherever there is a jump."""
        for offset, length in wanted:
            with self.as_our_errors(path):
                buffer = bytearray(length)
                if length:
                    self._fill(self._at(path, stat, offset), memoryview(buffer))
            yield buffer

    def upload(self, path: str) -> FtpUpload:
        """Begins a file by STOR, under a name that does not exist."""
        with self.as_our_errors(path, writing=True):
            self._end_transfer()
            return FtpUpload(self, path, self.ftp.transfercmd(f"STOR {self._wire(path)}"))

    def make_folder(self, path: str) -> None:
        """Makes a folder by MKD; if that fails, CWD shows whether it exists. If not, the answer to MKD is the reason."""
        with self.as_our_errors(path, writing=True):
            try:
                self._command(f"MKD {self._wire(path)}")
            except (ftplib.error_perm, ftplib.error_temp) as error:
                try:
                    self._command(f"CWD {self._wire(path)}")
                except (ftplib.error_perm, ftplib.error_temp):
                    raise error from None

    def remove_folder(self, path: str) -> None:
        """Removes a folder by RMD, if a listing shows it empty: some servers remove what is in it, too."""
        if self.entries(path, Budget(self._spec.name, self._limits)) == FolderContent(entries=[]):
            with self.as_our_errors(path, writing=True):
                self._command(f"RMD {self._wire(path)}")

    def give_name(self, path: str, to: str) -> None:
        """Renames by RNFR and RNTO. Some servers replace an existing name, so the name is looked for just before."""
        with contextlib.suppress(ArchiveAbsent):
            self.stat(to)
            raise FileExistsError(f"{self.where(to)}: the name is taken")
        with self.as_our_errors(path, writing=True):
            self._command(f"RNFR {self._wire(path)}")
            self._command(f"RNTO {self._wire(to)}")

    def remove(self, path: str) -> None:
        """Deletes by DELE."""
        with contextlib.suppress(ArchiveAbsent), self.as_our_errors(path):
            self._command(f"DELE {self._wire(path)}")

    def abort(self) -> None:
        """Shuts both sockets; a thread that waits on one gets an error."""
        self._aborted = True
        transfer = self._transfer
        for line in (transfer.line if transfer else None, self.ftp.sock):
            if line is not None:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def capabilities(self) -> Capabilities:
        """Asks for REST and MDTM: servers do more than their FEAT says, and less. MLSD is known since the last listing."""
        with self.as_our_errors(""):
            return Capabilities(resume=self._knows("REST 0"), exact_times=self._knows("MDTM /"), exact_listing=self._mlsd)

    def _knows(self, line: str) -> bool:
        """Whether the server knows a command; that it has no such file is a yes."""
        try:
            self._command(line)
        except ftplib.error_perm as error:
            return meaning_of(error) is not Meaning.NOT_KNOWN
        return True

    def close(self) -> None:
        """Closes both sockets, without a QUIT: its answer would have to be waited for."""
        if self._transfer is not None:
            self._transfer.line.close()
            self._transfer = None
        self.ftp.close()

    def _connect(self) -> None:
        self.ftp = log_in(self._spec, self._address, self._limits)
        self._mlsd = False
        try:
            with contextlib.suppress(ftplib.error_perm):
                self.ftp.voidcmd("TYPE I")
            with contextlib.suppress(ftplib.error_perm):
                features = self.ftp.sendcmd("FEAT").upper().split()
                self._mlsd = any(word.startswith("MLS") for word in features)
                if "UTF8" in features:
                    self.ftp.sendcmd("OPTS UTF8 ON")
        except (ftplib.Error, OSError, EOFError) as error:
            self.ftp.close()
            raise self.broken("logging in", error, "TLS: " if isinstance(error, ssl.SSLError) else "") from error

    def _command(self, line: str) -> str:
        self._end_transfer()
        return self.ftp.sendcmd(line)

    def _at(self, path: str, stat: FileStat, offset: int) -> Transfer:
        """Returns the transfer of this file, at this offset."""
        open_ = self._transfer
        gap = _GAP if self._rest else stat.size
        if open_ is None or open_.path != path or not open_.position <= offset <= open_.position + gap:
            self.check_same(path, stat, self.stat(path))
            line, position = self._begin(path, offset)
            self._transfer = open_ = Transfer(path=path, position=position, size=stat.size, line=line)
        while open_.position < offset:
            self._fill(open_, memoryview(bytearray(min(_PIECE, offset - open_.position))))
        return open_

    def _begin(self, path: str, offset: int) -> tuple[socket.socket, int]:
        """Begins to receive a file, and returns where it begins: at its first byte on a server without REST."""
        self._end_transfer()
        command = f"RETR {self._wire(path)}"
        if offset and self._rest:
            try:
                return self.ftp.transfercmd(command, rest=offset), offset
            except ftplib.error_perm as error:
                if meaning_of(error) is not Meaning.NOT_KNOWN:
                    raise
                self._rest = False
        return self.ftp.transfercmd(command), 0

    def _fill(self, transfer: Transfer, view: memoryview) -> None:
        while view:
            began = time.perf_counter()
            count = transfer.line.recv_into(view)
            if not count:
                self.usable = False
                raise CutShort(self.where(transfer.path), transfer.position, transfer.size)
            transfer.position += count
            self.pace.moved(count, time.perf_counter() - began)
            view = view[count:]

    def _end_transfer(self) -> None:
        """Ends the transfer; connects again if both sides are not in step then."""
        transfer, self._transfer = self._transfer, None
        if transfer is None:
            return
        transfer.line.close()
        try:
            with contextlib.suppress(ftplib.Error):
                self.ftp.getresp()
            in_step = self.ftp.sendcmd("NOOP").startswith("200")
        except ftplib.error_perm as error:
            in_step = meaning_of(error) is Meaning.NOT_KNOWN
        except (ftplib.Error, OSError, EOFError):
            in_step = False
        if not in_step and not self._aborted:
            self.ftp.close()
            self._connect()

    def _content_by(self, command: str, parse: Callable[[bytes], Parsed], folder: str, budget: Budget) -> FolderContent:
        self._end_transfer()
        with self.ftp.transfercmd(command) as line:
            parts = []
            while True:
                began = time.perf_counter()
                data = line.recv(_PIECE)
                if not data:
                    break
                self.pace.moved(len(data), time.perf_counter() - began)
                budget.spend(size=len(data))
                parts.append(data)
        reply = self.ftp.voidresp()
        found = parse(b"".join(parts))
        budget.spend(entries=len(found.entries))
        missing: list[tuple[GapKind, str]] = []
        if not_all_by(reply):  # even code 226 comes with "Output truncated to 4 matches"
            kind = GapKind.UNREADABLE if closed_by(reply) else GapKind.LIMITED
            missing.append((kind, f"the server answers: {printable(reply)}"))
        if found.unknown:
            missing.append((GapKind.UNKNOWN, found.why))
        sure = [entry for unsure in found.unsure if (entry := self._asked(folder, unsure, budget)) is not None]
        if len(sure) < len(found.unsure):
            missing.append((GapKind.UNKNOWN, "the server does not say how long a file in it is"))
        return FolderContent(entries=[*found.entries, *sure], missing=tuple(missing))

    def _asked(self, folder: str, unsure: Unsure, budget: Budget) -> Entry | None:
        """Asks for what a listing did not say of a file; None if the server does not say it of a file that may be a backup.

        What cannot be a backup is not asked for: two round trips for every file would be slow.
        """
        budget.spend()
        path = f"{folder}/{unsure.name}" if folder else unsure.name
        size, mtime = unsure.size, unsure.mtime
        try:
            size = self._size_of(path) if size is None else size
        except ftplib.error_perm as error:
            if meaning_of(error) not in (Meaning.ABSENT, Meaning.DENIED):
                raise
        if size is None:
            return None
        if mtime is None:
            mtime = self._time_of(path) if may_be_backups(folder, unsure.name) else 0.0
        return Entry(name=unsure.name, folder=False, stat=FileStat(size=size, mtime=mtime))

    def _wire(self, path: str) -> str:
        """Returns a path as ftplib takes it; raises `ArchiveAbsent` for one that FTP cannot name."""
        raw = self._address.below(path).encode("utf-8", "surrogateescape")
        if b"\r" in raw or b"\n" in raw:
            raise ArchiveAbsent(f"{self.where(path)}: FTP cannot name it", remedy="Rename it on the server.")
        return raw.decode("latin-1")

    @contextlib.contextmanager
    def as_our_errors(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Raises each error of ftplib and the sockets as one of ours. Only an absent file leaves both sides in step."""
        try:
            yield
        except (ftplib.error_perm, ftplib.error_temp) as error:
            reply = str(error)
            self.usable = self.usable and meaning_of(reply) in (Meaning.ABSENT, Meaning.DENIED)
            raise refusal(self.where(path), reply, writing=writing) from error
        except (ftplib.Error, OSError, EOFError, NotAListing) as error:
            self.usable = False
            raise self.broken(self.where(path), error, "TLS: " if isinstance(error, ssl.SSLError) else "") from error
        except PhdError as error:
            self.usable = self.usable and isinstance(error, ArchiveAbsent)
            raise
