"""An NBD client that sends what a test wants it to, right or wrong."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from restore_core.serve.nbd import messages as m

GREETING = 18


class OptionAnswer(NamedTuple):
    kind: int
    data: bytes


class Reply(NamedTuple):
    """What a request was answered: its error, its data as read, and its chunks as (type, payload)."""

    error: int
    data: bytes
    chunks: tuple[tuple[int, bytes], ...]


class RawClient:
    """One connection. Each method does one step, and none of them is needed."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.structured = False
        connected.settimeout(60)

    @classmethod
    def on(cls, path: object) -> RawClient:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(path))
        return cls(connected)

    def received(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def greet(self, flags: int = 3) -> bytes:
        greeting = self.received(GREETING)
        self.socket.sendall(struct.pack(">I", flags))
        return greeting

    def option(self, option: int, data: bytes = b"") -> list[OptionAnswer]:
        """Ask, and take all answers up to the last one."""
        self.socket.sendall(m.OPTION.pack(m.OPTION_MAGIC, option, len(data)) + data)
        answers = []
        while True:
            magic, of, kind, length = m.OPTION_REPLY.unpack(self.received(m.OPTION_REPLY.size))
            assert (magic, of) == (m.OPTION_REPLY_MAGIC, option)
            answers.append(OptionAnswer(kind, self.received(length)))
            if kind == m.OptionReply.ACK or kind >= 1 << 31:
                return answers

    def go(self, name: str = "", *, structured: bool = True, status: bool = True) -> RawClient:
        """The whole handshake, as a usual client."""
        self.greet()
        self.structured = structured
        if structured:
            self.option(m.OptionType.STRUCTURED_REPLY)
            if status:
                self.option(m.OptionType.SET_META_CONTEXT, contexts(name, ["base:allocation"]))
        assert self.option(m.OptionType.GO, info(name))[-1].kind == m.OptionReply.ACK
        return self

    def ask(self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0, cookie: int = 7, data: bytes = b"") -> None:
        self.socket.sendall(m.REQUEST.pack(m.REQUEST_MAGIC, flags, command, cookie, offset, length) + data)

    def ask_until_nothing_is_read(self, command: int, offset: int, length: int) -> int:
        """Ask again and again until the server reads no more; returns how many times."""
        self.socket.settimeout(1)
        for asked in range(100_000):
            try:
                self.ask(command, offset, length)
            except TimeoutError:
                return asked
        raise AssertionError("the server reads on for ever")

    def reply(self, length: int = 0) -> Reply:
        """The next reply to a request that asked for so many bytes."""
        if not self.structured:
            magic, error, _ = m.SIMPLE_REPLY.unpack(self.received(m.SIMPLE_REPLY.size))
            assert magic == m.SIMPLE_REPLY_MAGIC
            return Reply(error, self.received(length) if not error else b"", ())
        error, found, chunks = 0, {}, []
        while True:
            magic, flags, kind, _, size = m.CHUNK.unpack(self.received(m.CHUNK.size))
            assert magic == m.STRUCTURED_REPLY_MAGIC
            body = self.received(size)
            chunks.append((kind, body))
            if kind == m.ChunkType.OFFSET_DATA:
                found[struct.unpack(">Q", body[:8])[0]] = body[8:]
            elif kind == m.ChunkType.OFFSET_HOLE:
                at, count = struct.unpack(">QI", body)
                found[at] = bytes(count)
            elif kind == m.ChunkType.ERROR:
                error = struct.unpack(">I", body[:4])[0]
            if flags & m.DONE:
                return Reply(error, b"".join(found[at] for at in sorted(found)), tuple(chunks))

    def read(self, offset: int, length: int, flags: int = 0) -> Reply:
        self.ask(m.RequestType.READ, offset, length, flags=flags)
        return self.reply(length)

    def is_closed(self) -> bool:
        """Whether the server has closed the connection; what it still sent is read."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()


def info(name: str, wanted: Iterable[int] = ()) -> bytes:
    raw, asked = name.encode(), list(wanted)
    return struct.pack(">I", len(raw)) + raw + struct.pack(f">H{len(asked)}H", len(asked), *asked)


def contexts(name: str, queries: Iterable[str]) -> bytes:
    raw, asked = name.encode(), [query.encode() for query in queries]
    listed = b"".join(struct.pack(">I", len(one)) + one for one in asked)
    return struct.pack(">I", len(raw)) + raw + struct.pack(">I", len(asked)) + listed
