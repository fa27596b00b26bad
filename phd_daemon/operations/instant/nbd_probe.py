"""Asks an NBD server on a Unix socket for one export and its first bytes: whether it answers, and with which disk."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from restore_core.errors import TargetUnavailable, is_no_answer, remedy_for
from restore_core.naming import printable
from restore_core.serve.nbd.export_reader import FaultKind, NbdFault, NbdReader

_SECTOR = 512
_REMEDY = "'phd instant start' with the same backup and disk starts it again, and says why if it cannot."


def probe(path: Path, export: str, *, seconds: float = 10.0) -> int:
    """Returns the size of the export after a sector of it was read. Raises `TargetUnavailable` if that is not to be had."""
    where = f"the server at {printable(str(path))}"
    try:
        with NbdReader(path, export, seconds=seconds) as server:
            server.read(0, min(_SECTOR, server.size))
            server.leave()
            return server.size
    except NbdFault as fault:
        raise _refused(fault, where, export) from fault
    except OSError as error:
        remedy = remedy_for(error) if is_no_answer(error) else _REMEDY
        raise TargetUnavailable(f"{where} does not answer: {error.strerror or error}", remedy=remedy) from error


def _refused(fault: NbdFault, where: str, export: str) -> TargetUnavailable:
    match fault.kind:
        case FaultKind.NO_EXPORT:
            return TargetUnavailable(f"{where} has no disk '{printable(export)}'", remedy=_REMEDY)
        case FaultKind.BAD_BLOCK:
            why = f"the first block cannot be read ({os.strerror(fault.number)})"
            return TargetUnavailable(f"{where}: {why}", remedy="Its log says why.")
        case _:
            return TargetUnavailable(f"{where} is no NBD server", remedy="Another program took its socket: end that.")


def server_pid(path: Path) -> int | None:
    """Returns the process that listens at a socket; None if nobody does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:
        server.settimeout(2.0)
        server.connect(os.fspath(path))
        return peer_pid(server) or None
    return None


def peer_pid(connected: socket.socket) -> int:
    """Returns the process at the other end of a Unix socket; 0 if it is not of this PID namespace. Raises `OSError`."""
    return int(struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
