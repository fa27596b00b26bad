"""A client of NBD: chooses one export at a Unix socket and reads it. One thread uses it.

It raises `OSError` when the server does not answer, or ends; `NbdFault` for an answer that is not the wanted one.
"""

from __future__ import annotations

import enum
import os
import socket
from pathlib import Path
from typing import Self

from restore_core.serve.nbd import messages

_MOST = 4 << 20


class FaultKind(enum.Enum):
    """What was wrong with an answer."""

    NO_SERVER = "this is no NBD server"
    NO_EXPORT = "it has no such disk"
    NO_ANSWER = "its answer is no answer to this request"
    BAD_BLOCK = "it cannot read these bytes"


class NbdFault(Exception):
    """An answer that is not the wanted one. `number` is the NBD error of a bad block, which is one of errno."""

    def __init__(self, kind: FaultKind, number: int = 0) -> None:
        super().__init__(kind.value)
        self.kind, self.number = kind, number


class NbdReader:
    """One export. `size` are its bytes."""

    def __init__(self, path: Path, export: str = "", *, seconds: float) -> None:
        """Connects. `seconds` is the time for each answer. Raises `OSError` and `NbdFault`."""
        self._cookie = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(os.fspath(path))
            self.size = self._choose(export.encode("utf-8", "surrogateescape"))
        except BaseException:
            self._socket.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        """Returns these bytes, which lie within the disk. Raises `OSError` and `NbdFault`."""
        found = bytearray()
        while len(found) < length:
            found += self._ask(offset + len(found), min(_MOST, length - len(found)))
        return bytes(found)

    def leave(self) -> None:
        """Says goodbye to the server. Raises `OSError`."""
        self._socket.sendall(messages.REQUEST.pack(messages.REQUEST_MAGIC, 0, messages.RequestType.DISC, self._cookie + 1, 0, 0))

    def close(self) -> None:
        """Closes the connection. Harmless when repeated."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, export: bytes) -> int:
        magic, option, flags = messages.GREETING.unpack(self._received(messages.GREETING.size))
        if (magic, option) != (messages.INIT_MAGIC, messages.OPTION_MAGIC):
            raise NbdFault(FaultKind.NO_SERVER)
        ours = messages.HandshakeFlag.FIXED_NEWSTYLE | messages.HandshakeFlag.NO_ZEROES
        data = len(export).to_bytes(4, "big") + export + bytes(2)
        asked = messages.OPTION.pack(messages.OPTION_MAGIC, messages.OptionType.GO, len(data)) + data
        self._socket.sendall(int(ours & flags).to_bytes(4, "big") + asked)
        size = 0
        while True:
            magic, _option, kind, length = messages.OPTION_REPLY.unpack(self._received(messages.OPTION_REPLY.size))
            if magic != messages.OPTION_REPLY_MAGIC or length > messages.MAX_OPTION:
                raise NbdFault(FaultKind.NO_EXPORT)
            payload = self._received(length)
            if kind == messages.OptionReply.ACK:
                return size
            if kind != messages.OptionReply.INFO:
                raise NbdFault(FaultKind.NO_EXPORT)
            if int.from_bytes(payload[:2], "big") == messages.InfoType.EXPORT:
                size = int.from_bytes(payload[2:10], "big")

    def _ask(self, offset: int, length: int) -> bytes:
        self._cookie += 1
        request = messages.REQUEST.pack(messages.REQUEST_MAGIC, 0, messages.RequestType.READ, self._cookie, offset, length)
        self._socket.sendall(request)
        magic, error, cookie = messages.SIMPLE_REPLY.unpack(self._received(messages.SIMPLE_REPLY.size))
        if magic != messages.SIMPLE_REPLY_MAGIC or cookie != self._cookie:
            raise NbdFault(FaultKind.NO_ANSWER)
        if error:
            raise NbdFault(FaultKind.BAD_BLOCK, error)
        return self._received(length)

    def _received(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise ConnectionResetError("it has closed the connection")
            view = view[count:]
        return bytes(data)
