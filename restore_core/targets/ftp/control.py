"""The control side of one connection to an FTP server: its commands, the file that it is sending, and its errors as ours.

TYPE I comes first (proftpd knows no SIZE before it). After a transfer that we cut the server says 426, 226 or even 150: any reply
is accepted, then NOOP shows whether both sides are in step. A file that ends early ends with 226, too: only its size shows it.

A transfer stays open between two reads: a range that follows closely is read from it, and every other command ends it first.
Names are sent and received as bytes: ftplib uses latin-1, which changes no byte.
"""

from __future__ import annotations

import contextlib
import ftplib
import socket
import ssl
import time
from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.errors import ArchiveAbsent, PhdError, TargetRefused, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import Address, FileStat, ServerLimits, TargetSpec
from restore_core.targets.ftp.data_connection import NoDataConnection, last_word
from restore_core.targets.ftp.listing import NotAListing, parse_mdtm, size_in
from restore_core.targets.ftp.login import log_in
from restore_core.targets.ftp.refusal import no_data, refusal
from restore_core.targets.ftp.replies import Meaning, meaning_of
from restore_core.targets.remote.connection import Bandwidth, Connection, CutShort, KnownFile, Pace, server_name

_GAP = 1 << 20
"""Up to this many bytes are read and dropped before another transfer is begun, which costs four round trips."""

_PIECE = 256 << 10
_AFTER_CUT = 3.0
"""Seconds in which a server says that a transfer was cut. pure-ftpd in TLS says nothing at times: another connection is quicker."""
_NO_RESTART = ("551", "554")
"""Codes by which servers refuse a transfer from the middle of a file that they took REST for."""


@dataclass(slots=True)
class Transfer:
    """A file that the server is sending; its next byte is the one at `position`."""

    path: str
    position: int
    stat: FileStat
    line: socket.socket


class FtpControl(Connection, ABC):
    """What the calls of a `Connection` are made of. Its constructor connects and logs in."""

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

    def _size_of(self, path: str) -> int | None:
        """Returns the answer to SIZE; None on a server that does not know it, or does not tell it this user."""
        if not self._size:
            return None
        try:
            return size_in(self._command(f"SIZE {self._wire(path)}").split()[1])
        except ftplib.error_perm as error:
            if meaning_of(error) is Meaning.DENIED:
                return None
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

    def abort(self) -> None:
        """Shuts both sockets; a thread that waits on one gets an error."""
        self._aborted = True
        transfer = self._transfer
        for line in (transfer.line if transfer else None, self.ftp.sock):
            if line is not None:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

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
            self._set_binary()
            with contextlib.suppress(ftplib.error_perm):
                features = self.ftp.sendcmd("FEAT").upper().split()
                self._mlsd = any(word.startswith("MLS") for word in features)
                if "UTF8" in features:
                    with contextlib.suppress(ftplib.error_temp):  # proftpd with UseEncoding off; names are sent as bytes anyhow
                        self.ftp.sendcmd("OPTS UTF8 ON")
        except (ftplib.Error, OSError, EOFError) as error:
            self.ftp.close()
            raise self.broken("logging in", error, "TLS: " if isinstance(error, ssl.SSLError) else "") from error

    def _set_binary(self) -> None:
        try:
            self.ftp.voidcmd("TYPE I")
        except ftplib.error_perm as error:
            self.ftp.close()
            raise TargetRefused(
                f"{server_name(self._spec, self._address)}: does not take TYPE I: {printable(str(error))}",
                remedy="Without it bytes of a backup would be changed as those of a text. Allow binary transfers on the server.",
            ) from None

    def _command(self, line: str) -> str:
        self._end_transfer()
        return self.ftp.sendcmd(line)

    def _at(self, path: str, known: KnownFile, offset: int) -> Transfer:
        """Returns the transfer of this file, at this offset."""
        open_ = self._transfer
        gap = _GAP if self._rest else known.stat.size
        if open_ is None or (open_.path, open_.stat) != (path, known.stat) or not open_.position <= offset <= open_.position + gap:
            self.check_same(path, known, self.stat(path), lambda count: self._first(path, known, count))
            open_ = self._begin(path, known, offset)
        while open_.position < offset:
            self._fill(open_, memoryview(bytearray(min(_PIECE, offset - open_.position))))
        return open_

    def _first(self, path: str, known: KnownFile, count: int) -> bytes:
        """Returns the first bytes of the file that has this path now."""
        buffer = bytearray(count)
        self._fill(self._begin(path, known, 0), memoryview(buffer))
        return bytes(buffer)

    def _begin(self, path: str, known: KnownFile, offset: int) -> Transfer:
        """Begins to receive a file at this offset; at its first byte on a server without REST."""
        self._end_transfer()
        line, position = self._retrieve(path, offset)
        self._transfer = Transfer(path=path, position=position, stat=known.stat, line=line)
        return self._transfer

    def _retrieve(self, path: str, offset: int) -> tuple[socket.socket, int]:
        command = f"RETR {self._wire(path)}"
        if offset and self._rest:
            try:
                return self.ftp.transfercmd(command, rest=offset), offset
            except ftplib.error_perm as error:
                # Denied may be REST alone (vsftpd's cmds_denied), or the file: without REST it shows.
                if meaning_of(error) not in (Meaning.NOT_KNOWN, Meaning.DENIED) and str(error)[:3] not in _NO_RESTART:
                    raise
                self._rest = False
        return self.ftp.transfercmd(command), 0

    def _fill(self, transfer: Transfer, view: memoryview) -> None:
        while view:
            began = time.perf_counter()
            count = transfer.line.recv_into(view)
            if not count:
                raise self._cut(transfer)
            transfer.position += count
            self.pace.moved(count, time.perf_counter() - began)
            view = view[count:]

    def _cut(self, transfer: Transfer) -> PhdError:
        """Returns the error for a transfer that ends early: with 226 the file does, with any other reply the server gave up."""
        self.usable = False
        transfer.line.close()  # proftpd says why only after that, or after 10 s
        short, said = CutShort(self.where(transfer.path), transfer.position, transfer.stat.size), last_word(self.ftp)
        if said[:1] not in ("4", "5"):
            return short
        return TargetUnavailable(
            f"{short.message}: the server answers: {printable(said)}", remedy="Look at the server's log: why does it end transfers?"
        )

    def _wait_at_most(self, seconds: float) -> None:
        if self.ftp.sock is not None:
            self.ftp.sock.settimeout(seconds)

    def connect_again(self) -> None:
        """Logs in anew, in place of a connection that ended; an error if we cut it ourselves."""
        if self._aborted:
            raise EOFError
        self.ftp.close()
        self._connect()

    def _end_transfer(self) -> None:
        """Ends the transfer; connects again if both sides are not in step then."""
        transfer, self._transfer = self._transfer, None
        if transfer is None:
            return
        transfer.line.close()
        try:
            self._wait_at_most(min(_AFTER_CUT, self._limits.idle))
            with contextlib.suppress(ftplib.Error):
                self.ftp.getresp()
            in_step = self.ftp.sendcmd("NOOP").startswith("200")
            self._wait_at_most(self._limits.idle)
        except ftplib.error_perm as error:
            in_step = meaning_of(error) is Meaning.NOT_KNOWN
        except (ftplib.Error, OSError, EOFError):
            in_step = False
        if not in_step and not self._aborted:
            self.connect_again()

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
        except NoDataConnection as error:
            self.usable = False
            raise no_data(server_name(self._spec, self._address), str(error), for_good=error.for_good) from error
        except (ftplib.Error, OSError, EOFError, NotAListing) as error:
            self.usable = False
            raise self.broken(self.where(path), error, "TLS: " if isinstance(error, ssl.SSLError) else "") from error
        except PhdError as error:
            self.usable = self.usable and isinstance(error, ArchiveAbsent)
            raise
