"""The control side of an FTP connection, against a server of a few lines."""

from __future__ import annotations

import ftplib
import socket
import threading

from restore_core.errors import TargetUnavailable
from restore_core.targets.base import DEFAULT_LIMITS, Address, FileStat, TargetSpec
from restore_core.targets.ftp.connection import FtpConnection
from restore_core.targets.ftp.control import Transfer
from restore_core.targets.remote.connection import CutShort


class _Connection(FtpConnection):
    """One that is logged in already."""

    def _connect(self) -> None:
        self.ftp = ftplib.FTP(encoding="latin-1")  # noqa: S321 - of a test


def _cut(reply: str) -> Exception:
    """What is said of a transfer that a server ends, which says why once the client has closed the data connection."""
    address = Address(scheme="ftp", host="nas", port=21, user="", root="/")
    connection = _Connection(TargetSpec(name="nas", url="ftp://nas/"), address, DEFAULT_LIMITS, None)  # type: ignore[arg-type]  # no limit is asked for
    control, servers_control = socket.socketpair()
    data, servers_data = socket.socketpair()
    with control, servers_control, data, servers_data:
        connection.ftp.sock, connection.ftp.file = control, control.makefile("r", encoding="latin-1", newline="")
        servers_data.shutdown(socket.SHUT_WR)

        def linger() -> None:
            while servers_data.recv(1 << 16):
                pass
            servers_control.sendall(f"{reply}\r\n".encode())

        thread = threading.Thread(target=linger)
        thread.start()
        transfer = Transfer(path="a", position=0, stat=FileStat(size=9, mtime=0.0), line=data)
        found = connection._cut(transfer)
        data.close()
        thread.join()
        connection.ftp.file.close()
    return found


def test_a_server_that_waits_for_our_close_is_heard() -> None:
    """proftpd lingers; what it said came too late, and the archive was called truncated (65)."""
    found = _cut("426 Transfer aborted. Operation not permitted")
    assert isinstance(found, TargetUnavailable)
    assert "the server answers: 426 Transfer aborted. Operation not permitted" in str(found)


def test_a_file_that_ends_early_with_success_is_short() -> None:
    assert isinstance(_cut("226 Transfer complete"), CutShort)
