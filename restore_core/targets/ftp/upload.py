"""A file that is sent to an FTP server by STOR."""

from __future__ import annotations

import contextlib
import ftplib
import socket
import ssl
import time
from contextlib import AbstractContextManager
from typing import Protocol

from restore_core.targets.base import Buffer, FileStat
from restore_core.targets.ftp.replies import Meaning, meaning_of
from restore_core.targets.remote.connection import Pace

_PIECE = 256 << 10
_LAST_WORD = 2.0
"""Seconds in which a server that cut an upload says why."""


class Sender(Protocol):
    """What an upload needs of its connection."""

    ftp: ftplib.FTP
    pace: Pace
    usable: bool

    def as_our_errors(self, path: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Raises the errors of ftplib and the sockets as ours."""

    def stat(self, path: str) -> FileStat:
        """Returns size and time."""

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
                except OSError:  # a server without room closes the line, and says so on the other
                    if (said := _last_word(connection.ftp))[:1] in ("4", "5"):
                        raise ftplib.error_perm(said) from None  # noqa: S321 - only its error
                    raise
                connection.pace.moved(len(piece), time.perf_counter() - began)
        self._size += len(view)

    def finish(self) -> None:
        """Waits for the server's reply, and checks the size: FTP knows no fsync."""
        connection = self._connection
        with connection.as_our_errors(self._path, writing=True):
            if isinstance(self._line, ssl.SSLSocket):
                with contextlib.suppress(OSError):  # some servers want a TLS goodbye, others have closed by then
                    self._line.unwrap()
            self._line.close()
            reply = connection.ftp.voidresp()
            if meaning_of(reply) is Meaning.FULL:
                raise ftplib.error_perm(reply)  # noqa: S321 - only its error
        connection.check_arrived(self._path, connection.stat(self._path).size, self._size)

    def abandon(self) -> None:
        """Cuts the transfer; the connection is not used again."""
        self._line.close()
        self._connection.usable = False


def _last_word(ftp: ftplib.FTP) -> str:
    """Returns why the server cut an upload, if it says so at once; else nothing."""
    line = ftp.sock
    if line is None:
        return ""
    line.settimeout(_LAST_WORD)
    try:
        return ftp.getresp()
    except (ftplib.error_perm, ftplib.error_temp) as error:
        return str(error)
    except (ftplib.Error, OSError, EOFError):
        return ""
