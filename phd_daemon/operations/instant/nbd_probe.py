"""Asks an NBD server on a Unix socket for one export and its first bytes: whether it answers, and with which disk."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from restore_core.errors import TargetUnavailable, is_no_answer, remedy_for
from restore_core.naming import printable

_MAGIC, _OPTION_MAGIC, _REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
_GO, _ACK, _INFO = 7, 1, 3
_READ, _DISCONNECT = 0, 2
_SECTOR = 512


def probe(path: Path, export: str, *, seconds: float = 10.0) -> int:
    """Returns the size of the export after a sector of it was read. Raises `TargetUnavailable` if that is not to be had."""
    where = f"the server at {printable(str(path))}"
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(seconds)
            server.connect(os.fspath(path))
            return _first_sector(server, export, where)
    except OSError as error:
        remedy = remedy_for(error) if is_no_answer(error) else _REMEDY
        raise TargetUnavailable(f"{where} does not answer: {error.strerror or error}", remedy=remedy) from error


def server_pid(path: Path) -> int | None:
    """Returns the process that listens at a socket; None if nobody does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:
        server.settimeout(2.0)
        server.connect(os.fspath(path))
        found = struct.unpack("3i", server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return int(found) or None
    return None


_REMEDY = "'phd instant start' with the same backup and disk starts it again, and says why if it cannot."


def _first_sector(server: socket.socket, export: str, where: str) -> int:
    hello = _take(server, 18)
    if hello[:16] != _MAGIC + _OPTION_MAGIC:
        raise TargetUnavailable(f"{where} is no NBD server", remedy="Another program took its socket: end that.")
    name = export.encode("utf-8", "surrogateescape")
    data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    server.sendall(struct.pack(">I", 3) + _OPTION_MAGIC + struct.pack(">II", _GO, len(data)) + data)
    size = None
    while True:
        magic, _option, kind, length = struct.unpack(">QIII", _take(server, 20))
        payload = _take(server, min(length, 1 << 16))
        if magic != _REPLY_MAGIC or kind not in (_ACK, _INFO):
            raise TargetUnavailable(f"{where} has no disk '{printable(export)}'", remedy=_REMEDY)
        if kind == _INFO and payload[:2] == b"\0\0":
            size = int(struct.unpack(">Q", payload[2:10])[0])
        if kind == _ACK:
            break
    if size:
        server.sendall(struct.pack(">IHHQQI", 0x25609513, 0, _READ, 1, 0, min(_SECTOR, size)))
        _magic, error, _cookie = struct.unpack(">IIQ", _take(server, 16))
        if error:
            raise TargetUnavailable(f"{where}: the first block cannot be read ({os.strerror(error)})", remedy="Its log says why.")
        _take(server, min(_SECTOR, size))
    server.sendall(struct.pack(">IHHQQI", 0x25609513, 0, _DISCONNECT, 2, 0, 0))
    return size or 0


def _take(server: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = server.recv(count - len(data))
        if not more:
            raise ConnectionResetError("it closed the connection")
        data += more
    return data
