"""The messages between the child that reads a file system and its parent: a letter, a length, and the body."""

from __future__ import annotations

import enum
import json
import socket
import struct
from typing import Any

MAX_BODY = 2 << 20
"""Bytes of the largest message: a piece of a file, and what surrounds it."""
MAX_READ = 1 << 20
"""Bytes that the child may ask for at once."""
_HEAD = struct.Struct(">cI")
READ = struct.Struct(">QI")
LENGTH = struct.Struct(">Q")


class Message(enum.Enum):
    """Who says what: see the table in `phd_daemon/guest`."""

    WALK = b"W"
    YES = b"Y"
    NO = b"N"
    BYTES = b"B"
    NO_BYTES = b"O"
    READY = b"S"
    READ = b"R"
    FOUND = b"E"
    DATA = b"D"
    HOLE = b"H"
    ENDED = b"F"
    LEFT = b"L"
    DONE = b"Z"
    FAILED = b"X"


class Broken(Exception):
    """The other side is gone, or says what it may not."""


class Dialogue:
    """One end of the connection. Each call sends or receives one whole message; raises `Broken`."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = end.makefile("rb", buffering=1 << 16)

    def send(self, kind: Message, body: bytes | memoryview = b"") -> None:
        """Sends a message."""
        try:
            self._end.sendmsg([_HEAD.pack(kind.value, len(body)), body]) if len(body) < 4096 else self._send_long(kind, body)
        except OSError as error:
            raise Broken(str(error)) from error

    def _send_long(self, kind: Message, body: bytes | memoryview) -> None:
        self._end.sendall(_HEAD.pack(kind.value, len(body)))
        self._end.sendall(body)

    def send_record(self, kind: Message, record: dict[str, Any]) -> None:
        """Sends a message whose body is JSON."""
        self.send(kind, json.dumps(record).encode("ascii"))

    def receive(self) -> tuple[Message, bytes]:
        """Returns the next message."""
        kind, length = _HEAD.unpack(self._exactly(_HEAD.size))
        if length > MAX_BODY:
            raise Broken(f"a message of {length} bytes")
        try:
            return Message(kind), self._exactly(length)
        except ValueError as error:
            raise Broken("a message of an unknown kind") from error

    def _exactly(self, length: int) -> bytes:
        try:
            body: bytes = self._file.read(length)
        except OSError as error:
            raise Broken(str(error)) from error
        if len(body) < length:
            raise Broken("the connection ended")
        return body

    def close(self) -> None:
        """Ends the connection."""
        self._file.close()
        self._end.close()


def json_of(body: bytes) -> dict[str, Any]:
    """Returns the JSON of a body. Raises `Broken`."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Broken("a message that is no JSON") from error
    if not isinstance(found, dict):
        raise Broken("a message that is no record")
    return found
