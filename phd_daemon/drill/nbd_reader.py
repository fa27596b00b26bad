"""Reads a served disk over its socket: as much of an NBD client as a partition table needs. One thread uses it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

from restore_core.errors import BadData, TryAgainLater
from restore_core.naming import printable
from restore_core.serve.nbd import messages

_SECONDS = 120.0
_MOST = 4 << 20


class NbdReader:
    """The disk of the export without a name at a Unix socket. `size` are its bytes."""

    def __init__(self, path: Path) -> None:
        """Connects. Raises `TryAgainLater`."""
        self._where, self._cookie = printable(str(path)), 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(str(path))
            self.size = self._choose()
        except OSError as error:
            self._socket.close()
            raise self._gone(error.strerror or str(error)) from error
        except BaseException:
            self._socket.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        """Returns these bytes, which lie within the disk. Raises `BadData` if the server cannot read them, `TryAgainLater`."""
        found = bytearray()
        while len(found) < length:
            part = min(_MOST, length - len(found))
            found += self._ask(offset + len(found), part)
        return bytes(found)

    def close(self) -> None:
        """Leaves the server. Harmless when repeated."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self) -> int:
        magic, option, flags = messages.GREETING.unpack(self._received(messages.GREETING.size))
        if (magic, option) != (messages.INIT_MAGIC, messages.OPTION_MAGIC):
            raise self._gone("this is no NBD server")
        ours = messages.HandshakeFlag.FIXED_NEWSTYLE | messages.HandshakeFlag.NO_ZEROES
        self._socket.sendall(int(ours & flags).to_bytes(4, "big"))
        self._socket.sendall(messages.OPTION.pack(messages.OPTION_MAGIC, messages.OptionType.EXPORT_NAME, 0))
        size = int.from_bytes(self._received(8), "big")
        self._received(2 if flags & messages.HandshakeFlag.NO_ZEROES else 2 + 124)
        return size

    def _ask(self, offset: int, length: int) -> bytes:
        self._cookie += 1
        request = messages.REQUEST.pack(messages.REQUEST_MAGIC, 0, messages.RequestType.READ, self._cookie, offset, length)
        try:
            self._socket.sendall(request)
            magic, error, cookie = messages.SIMPLE_REPLY.unpack(self._received(messages.SIMPLE_REPLY.size))
            if magic != messages.SIMPLE_REPLY_MAGIC or cookie != self._cookie:
                raise self._gone("its answer is no answer to this request")
            if error:
                raise BadData(f"bytes {offset} to {offset + length} of the disk cannot be read (NBD error {error})")
            return self._received(length)
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error

    def _received(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise self._gone("it has closed the connection")
            view = view[count:]
        return bytes(data)

    def _gone(self, why: str) -> TryAgainLater:
        return TryAgainLater(f"{self._where}: the server of this disk: {why}")
