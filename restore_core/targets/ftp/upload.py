"""A file that is sent to an FTP server by STOR."""

from __future__ import annotations

import contextlib
import ftplib
import socket
import ssl
import time
from contextlib import AbstractContextManager
from typing import Protocol

from restore_core.errors import ArchiveAbsent
from restore_core.targets.base import Buffer, FileStat
from restore_core.targets.ftp.data_connection import last_word
from restore_core.targets.ftp.replies import Meaning, meaning_of
from restore_core.targets.remote.connection import Pace

_PIECE = 256 << 10
_LOOKS = 20
_PAUSE = 0.5
"""How often, and after how many seconds, the size of a file is asked for whose last bytes may still be on their way."""


class Sender(Protocol):
    """What an upload needs of its connection."""

    ftp: ftplib.FTP
    pace: Pace
    usable: bool

    def as_our_errors(self, path: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Raises the errors of ftplib and the sockets as ours."""

    def stat(self, path: str) -> FileStat:
        """Returns size and time."""

    def connect_again(self) -> None:
        """Logs in anew."""

    def check_arrived(self, path: str, there: int, sent: int) -> None:
        """Raises unless all bytes are there."""


class FtpUpload:
    """An `Upload` by STOR."""

    def __init__(self, connection: Sender, path: str, line: socket.socket) -> None:
        self._connection, self._path, self._line = connection, path, line
        self._size = 0

    def write(self, data: Buffer | memoryview) -> None:
        """Sends."""
        view, connection = memoryview(data), self._connection
        with connection.as_our_errors(self._path, writing=True):
            for at in range(0, len(view), _PIECE):
                piece = view[at : at + _PIECE]
                began = time.perf_counter()
                try:
                    self._line.sendall(piece)
                except OSError:  # a server without room closes the line, and says so on the other, some once we have closed ours
                    self._line.close()
                    if (said := last_word(connection.ftp))[:1] in ("4", "5"):
                        raise ftplib.error_perm(said) from None  # noqa: S321 - only its error
                    raise
                connection.pace.moved(len(piece), time.perf_counter() - began)
        self._size += len(view)

    def finish(self) -> None:
        """Waits for the server's reply, and checks the size: FTP knows no fsync.

        The control connection is silent during a long transfer, and a server or a router may have ended it: then the size tells.
        """
        connection = self._connection
        with connection.as_our_errors(self._path, writing=True):
            if isinstance(self._line, ssl.SSLSocket):
                with contextlib.suppress(OSError):  # some servers want a TLS goodbye, others have closed by then
                    self._line.unwrap()
            self._line.close()
            try:
                reply = connection.ftp.voidresp()
            except (EOFError, OSError, ftplib.error_temp) as error:
                if isinstance(error, ftplib.error_temp) and (not str(error).startswith("421") or meaning_of(error) is Meaning.FULL):
                    raise
                if not self._has_arrived():
                    raise
                return
            there = self._size_there(reply)
        connection.check_arrived(self._path, there, self._size)

    def _size_there(self, reply: str) -> int:
        """Returns the size after a reply that means success; some say with it that there was no room, or soon will be none."""
        full = meaning_of(reply) is Meaning.FULL
        try:
            there = self._connection.stat(self._path).size
        except ArchiveAbsent:
            if not full:
                raise
            there = -1
        if full and there != self._size:
            raise ftplib.error_perm(reply)  # noqa: S321 - only its error
        return there

    def _has_arrived(self) -> bool:
        """Whether all bytes are there, by a new connection; waits as long as more of them arrive."""
        connection = self._connection
        connection.connect_again()
        before = -1
        for _ in range(_LOOKS):
            there = connection.stat(self._path).size
            if there in (self._size, before):
                return there == self._size
            before = there
            time.sleep(_PAUSE)
        return False

    def abandon(self) -> None:
        """Cuts the transfer; the connection is not used again."""
        self._line.close()
        self._connection.usable = False
