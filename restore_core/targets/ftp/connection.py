"""One connection to an FTP server, plain or inside TLS (explicit, RFC 4217), by the standard library's ftplib.

What real servers need: MLSD where FEAT names it, else CWD and a bare LIST, since LIST of a missing folder is empty without an
error (vsftpd), and so is LIST of a path with a space (pure-ftpd). A data connection must reuse the TLS session of its control
connection (vsftpd, proftpd). The address in the answer to PASV is ignored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ftplib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace

from restore_core.capabilities import Capabilities
from restore_core.errors import ArchiveAbsent, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import NEW_FILE_SUFFIX, Buffer, FileStat, Range
from restore_core.targets.ftp.control import FtpControl
from restore_core.targets.ftp.listing import NotAListing, Parsed, Unsure, read_list, read_mlsd
from restore_core.targets.ftp.refusal import SEE_WHAT_THERE_IS
from restore_core.targets.ftp.replies import Meaning, closed_by, is_empty_by, meaning_of, not_all_by
from restore_core.targets.ftp.upload import FtpUpload
from restore_core.targets.gaps import GapKind, may_be_backups
from restore_core.targets.remote.connection import NOT_EVEN_ITSELF, Budget, Entry, FolderContent, KnownFile

_PIECE = 256 << 10
_LIST_ALL = "LIST -a"
_OF_THE_LOGIN = (Meaning.BUSY, Meaning.LOGIN, Meaning.NEEDS_TLS)
_OF_ONE_FOLDER = ("450", "451", "550", "551", "553")
"""Codes of errors that concern only the folder that was asked for."""


class FtpConnection(FtpControl):
    """A `Connection`."""

    shared_between_ranges = True
    _shows_dots: bool | None = None
    """Whether LIST -a of the target's own folder lists its own name; None as long as nobody had to know."""

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
            if str(error)[:3] not in _OF_ONE_FOLDER or meaning in _OF_THE_LOGIN:
                raise
            why = f"the server answers: {printable(str(error))}"
            return FolderContent(entries=(), missing=((GapKind.UNREADABLE, why),), may_be_gone=meaning is Meaning.ABSENT)
        except NotAListing as error:
            if not error.ended:
                raise
            return FolderContent(entries=(), missing=((GapKind.UNKNOWN, str(error)),))

    def _content(self, folder: str, budget: Budget) -> FolderContent:
        self._command(f"CWD {self._wire(folder)}")
        refused: ftplib.error_perm | None = None
        if self._mlsd:
            try:
                found = self._content_by("MLSD", read_mlsd, folder, budget)
            except ftplib.error_perm as error:
                if meaning_of(error) in _OF_THE_LOGIN:
                    raise
                self._mlsd = meaning_of(error) is not Meaning.NOT_KNOWN
                refused = error if self._mlsd else None
            else:
                if self._mlsd:
                    return found
        if budget.hidden:
            return self._with_hidden(folder, budget)
        return self._by_list(folder, budget, refused)

    def _by_list(self, folder: str, budget: Budget, refused: ftplib.error_perm | None) -> FolderContent:
        """Lists by LIST. `refused` is what the server said to MLSD: of this folder, or of that command whatever the folder.

        proftpd answers with an empty listing where the folder may not be read. One that may be read lists its own name by LIST -a.
        """
        found = self._content_by("LIST", _read_list_now, folder, budget)
        if not found.entries and not found.missing and not self._lists_itself(budget):
            if refused is not None:
                raise refused
            if self._shows_dots is None:
                self._command(f"CWD {self._wire('')}")
                self._shows_dots = self._lists_itself(budget)
            if self._shows_dots:
                return FolderContent(entries=(), missing=((GapKind.UNREADABLE, NOT_EVEN_ITSELF),))
        elif refused is not None and not found.entries and found.missing:
            raise refused
        elif refused is not None:  # it was of the command: proftpd with <Limit MLSD>
            self._mlsd = False
        return found

    def _lists_itself(self, budget: Budget) -> bool:
        with contextlib.suppress(ftplib.error_perm, ftplib.error_temp):
            return any(line.endswith(b" .") for line in self._received(_LIST_ALL, budget)[0].splitlines())
        return False

    def _with_hidden(self, folder: str, budget: Budget) -> FolderContent:
        """Lists with the names that begin with a dot: by LIST -a, else by NLST, and what that names is asked for."""
        found = None
        with contextlib.suppress(ftplib.error_perm):  # some take -a for a name
            found = self._content_by(_LIST_ALL, _read_list_now, folder, budget)
        found = found or self._content_by("LIST", _read_list_now, folder, budget)
        if any(entry.name.startswith(".") for entry in found.entries) or self._lists_itself(budget):
            return found
        names: set[str] = set()
        for command in ("NLST -a", "NLST"):
            with contextlib.suppress(ftplib.error_perm, ftplib.error_temp):
                lines = self._received(command, budget)[0].decode("utf-8", "surrogateescape").splitlines()
                names |= {name for line in lines if (name := line.rpartition("/")[2]).startswith(".")}
        parts = (Unsure(name=name, size=None, mtime=None) for name in sorted(names) if name.endswith(NEW_FILE_SUFFIX))
        asked = [entry for part in parts if (entry := self._asked(folder, part, budget)) is not None]
        return replace(found, entries=[*found.entries, *asked], hides_dots=not names)

    def stat(self, path: str) -> FileStat:
        """Asks for SIZE and MDTM. The time is 0 on a server without MDTM; one without SIZE is asked for a listing."""
        with self.as_our_errors(path):
            size = self._size_of(path)
            return self._listed_stat(path) if size is None else FileStat(size=size, mtime=self._time_of(path))

    def _listed_stat(self, path: str) -> FileStat:
        folder, _, name = path.rpartition("/")
        content = self._content(folder, Budget(self._spec.name, self._limits))
        for entry in content.entries:
            if entry.name == name and not entry.folder:
                return FileStat(size=entry.stat.size, mtime=self._time_of(path))
        if content.missing:
            raise TargetUnavailable(f"{self.where(path)}: its size is not known: {content.missing[0][1]}")
        raise ArchiveAbsent(f"{self.where(path)}: its folder does not list it", remedy=SEE_WHAT_THERE_IS)

    def ranges(self, path: str, known: KnownFile, wanted: Iterator[Range]) -> Generator[Buffer]:
        """Reads ranges that follow each other closely from one transfer; begins another wherever there is a jump."""
        for offset, length in wanted:
            with self.as_our_errors(path):
                buffer = bytearray(length)
                if length:
                    self._fill(self._at(path, known, offset), memoryview(buffer))
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
        found = self.entries(path, Budget(self._spec.name, self._limits, hidden=True))
        if not found.entries and not found.missing:
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

    def capabilities(self) -> Capabilities:
        """Asks for REST, MDTM and writing: servers do more than their FEAT says, and less. MLSD is known since the last listing."""
        with self.as_our_errors(""):
            return Capabilities(
                resume=self._rest and self._knows("REST 0"),
                exact_times=self._knows("MDTM /"),
                exact_listing=self._mlsd,
                writable=False if self._is_read_only() else None,
            )

    def _is_read_only(self) -> bool:
        """Whether the server denies to make the target's own folder, and to rename it. It is there, so that nothing is written."""
        root = self._wire("")
        self._command(f"CWD {root}")
        return self._denies(f"MKD {root}") and self._denies(f"RNFR {root}")

    def _denies(self, line: str) -> bool:
        try:
            self._command(line)
        except (ftplib.error_perm, ftplib.error_temp) as error:
            return meaning_of(error) is Meaning.DENIED
        return False

    def _content_by(self, command: str, parse: Callable[[bytes], Parsed], folder: str, budget: Budget) -> FolderContent:
        try:
            data, reply = self._received(command, budget)
        except (ftplib.error_perm, ftplib.error_temp) as error:
            if command == _LIST_ALL or not is_empty_by(str(error)):  # where -a is a name, there is no file of it
                raise
            return FolderContent(entries=[])
        found = parse(data)
        budget.spend(entries=len(found.entries))
        missing: list[tuple[GapKind, str]] = []
        if not_all_by(reply):  # even code 226 comes with "Output truncated to 4 matches"
            kind = GapKind.UNREADABLE if closed_by(reply) else GapKind.LIMITED
            missing.append((kind, f"the server answers: {printable(reply)}"))
        if found.unknown:
            missing.append((GapKind.UNKNOWN, found.why))
        sure = [entry for unsure in found.unsure if (entry := self._asked(folder, unsure, budget)) is not None]
        if len(sure) < len(found.unsure):
            self._mlsd = self._mlsd and self._size  # a LIST tells sizes
            missing.append((GapKind.UNKNOWN, "the server does not say how long a file in it is"))
        return FolderContent(entries=[*found.entries, *sure], missing=tuple(missing))

    def _received(self, command: str, budget: Budget) -> tuple[bytes, str]:
        """Returns the bytes of a listing, and the reply that ends it."""
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
        return b"".join(parts), self.ftp.voidresp()

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
            if meaning_of(error) is not Meaning.ABSENT:
                raise
        if size is None:
            return None
        if mtime is None:
            mtime = self._time_of(path) if may_be_backups(folder, unsure.name) else 0.0
        return Entry(name=unsure.name, folder=False, stat=FileStat(size=size, mtime=mtime))


def _read_list_now(data: bytes) -> Parsed:
    return read_list(data, dt.datetime.now(dt.UTC))
