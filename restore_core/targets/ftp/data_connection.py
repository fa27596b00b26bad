"""Data connections of FTP: always passive, since a server behind a router, or we behind one, could not connect to us.

PASV is asked for first over IPv4 and EPSV over IPv6; a server that refuses the one is asked for the other. The address in an answer
is ignored: servers behind a router tell their own, and a hostile one could name another machine.
"""

from __future__ import annotations

import ftplib
import socket

from restore_core.naming import printable
from restore_core.targets.ftp.replies import Meaning, meaning_of

_LAST_WORD = 2.0
"""Seconds in which a server that cut a transfer says why."""


class NoDataConnection(OSError):
    """The server opens no port for data, or the port cannot be reached. The text says which. `for_good`: it never opens one."""

    def __init__(self, text: str, *, for_good: bool = False) -> None:
        super().__init__(text)
        self.for_good = for_good


class PassiveFtp(ftplib.FTP):
    """FTP with data connections that are opened so."""

    _extended_first: bool | None = None

    def makepasv(self) -> tuple[str, int]:
        """Asks for a port; raises the server's own error where it may have one later, `NoDataConnection` where it never has."""
        if self._extended_first is None:
            self._extended_first = self.af != socket.AF_INET
        refused: dict[str, ftplib.Error] = {}
        for extended in (self._extended_first, not self._extended_first):
            try:
                port = self._port(extended=extended)
            except (ftplib.Error, ValueError, IndexError) as error:
                no = error if isinstance(error, ftplib.Error) else ftplib.error_proto(str(error))  # noqa: S321 - only its error
                if meaning_of(no) in (Meaning.BUSY, Meaning.LOGIN, Meaning.NEEDS_TLS):
                    raise no from None
                refused["EPSV" if extended else "PASV"] = no
            else:
                self._extended_first = extended
                return self._peer(), port
        for no in refused.values():
            if str(no).startswith("4"):
                raise no
        never = all(meaning_of(no) in (Meaning.NOT_KNOWN, Meaning.DENIED) for no in refused.values())
        raise NoDataConnection(
            f"opens no port for data: {'; '.join(f'{name}: {printable(str(no))}' for name, no in refused.items())}", for_good=never
        )

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """Connects to the port, then sends the command, as the base class does."""
        host, port = self.makepasv()
        try:
            line = socket.create_connection((host, port), self.timeout)
        except OSError as error:
            why = "does not answer" if isinstance(error, TimeoutError) else printable(error.strerror or str(error))
            raise NoDataConnection(f"opens port {port} for data, and that port of {host} cannot be reached: {why}") from error
        try:
            if rest is not None:
                self.sendcmd(f"REST {rest}")
            reply = self.sendcmd(cmd)
            if reply.startswith("2"):  # some servers say 200 before the 150
                reply = self.getresp()
            if not reply.startswith("1"):
                raise ftplib.error_reply(reply)  # noqa: S321 - only its error
        except BaseException:
            line.close()
            raise
        return line, None

    def _port(self, *, extended: bool) -> int:
        if extended:
            return ftplib.parse229(self.sendcmd("EPSV"), (self._peer(), 0))[1]  # noqa: S321 - reads a reply
        return ftplib.parse227(self.sendcmd("PASV"))[1]  # noqa: S321 - see above

    def _peer(self) -> str:
        if self.sock is None:
            raise EOFError
        host: str = self.sock.getpeername()[0]
        return host


def last_word(ftp: ftplib.FTP) -> str:
    """Returns why the server cut a transfer, if it says so at once; else nothing. The connection is not used again."""
    line = ftp.sock
    if line is None:
        return ""
    try:
        line.settimeout(_LAST_WORD)
        return ftp.getresp()
    except (ftplib.error_perm, ftplib.error_temp) as error:
        return str(error)
    except (ftplib.Error, OSError, EOFError):
        return ""
