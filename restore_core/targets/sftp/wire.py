"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02), over an open channel.

Requests are sent at once, answers are collected by number, so any number of requests may be on their way.

The protocol is written here, over paramiko's channel, for three reasons. paramiko's client reads a file twice when its prefetch
is bounded, and buffers without bound when it is not. It cannot list a name that is not UTF-8. And it takes the channel's bytes
in small pieces, each of which moves the rest of a large buffer.

No length is trusted: a packet is at most `MAX_PACKET` bytes, a field lies within its packet.
"""

from __future__ import annotations

import enum
import stat as stat_module
import struct
from dataclasses import dataclass
from typing import Protocol

MAX_PACKET = 1 << 20
_TAKE = 1 << 20
"""The most bytes taken from the channel at once. Four times as much is no faster, and needs 30 MB more memory."""
_LATE = 16 << 10
_SAID = 120
"""Bytes that are shown of what is no answer of an SFTP server."""
_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">IBI")
_SIZE, _OWNER, _MODE, _TIMES, _EXTENDED = 1, 2, 4, 8, 0x80000000
_USUAL = struct.Struct(">IQIIIII")
"""Flags, size, user, group, mode, two times: the form of almost every server, read in one step."""
_USUAL_FLAGS = _SIZE | _OWNER | _MODE | _TIMES


class Ask(enum.IntEnum):
    """Kinds of requests."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    RMDIR = 15
    MKDIR = 14
    RENAME = 18
    EXTENDED = 200


class AnswerType(enum.IntEnum):
    """Kinds of answers."""

    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED_REPLY = 201


class Status(enum.IntEnum):
    """Codes of a status answer that mean something to us."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    UNSUPPORTED = 8
    READ_ONLY = 12
    NO_SPACE = 14
    QUOTA = 15


class Declined(Exception):
    """The server refused a request; `code` is a `Status` or another number of the protocol."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class ProtocolError(Exception):
    """The server sent what is not SFTP."""


class NotSftp(ProtocolError):
    """Something else than an SFTP server has answered; the text is what it said."""


class ByteChannel(Protocol):
    """The channel below."""

    def recv(self, size: int) -> bytes:
        """Returns at least one byte and at most `size`; empty when the other side has closed."""

    def sendall(self, data: bytes) -> None:
        """Sends all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What the server says of a file. `mode` is 0 when it does not say, `size` None."""

    mode: int
    size: int | None
    mtime: float

    @property
    def regular(self) -> bool:
        """Whether it is a plain file."""
        return stat_module.S_ISREG(self.mode)

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return stat_module.S_ISDIR(self.mode)


class Fields:
    """Reads the fields of one packet in order."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def u32(self) -> int:
        """Reads a number of 4 bytes."""
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        """Reads a number of 8 bytes."""
        return int.from_bytes(self._take(8), "big")

    def text(self) -> bytes:
        """Reads a string with its length before it."""
        return self._take(self.u32())

    def skip(self) -> None:
        """Skips a string."""
        self._at += 4 + int.from_bytes(self._data[self._at : self._at + 4], "big")
        if self._at > len(self._data):
            raise ProtocolError("a field is longer than its packet")

    def attributes(self) -> Attributes:
        """Reads a file's attributes; those the server leaves out are 0, but for the size: a file of 0 bytes is another thing."""
        mode, size, mtime = self.facts()
        return Attributes(mode=mode, size=size, mtime=float(mtime))

    def facts(self) -> tuple[int, int | None, int]:
        """Reads them as mode, size and mtime: faster for a listing, which has many of them."""
        if len(self._data) - self._at >= _USUAL.size:
            flags, size, _user, _group, mode, _read, mtime = _USUAL.unpack_from(self._data, self._at)
            if flags == _USUAL_FLAGS:
                self._at += _USUAL.size
                return mode, size, mtime
        flags = self.u32()
        size = self.u64() if flags & _SIZE else None
        if flags & _OWNER:
            self._take(8)
        mode = self.u32() if flags & _MODE else 0
        mtime = (self.u32(), self.u32())[1] if flags & _TIMES else 0
        for _ in range(self.u32() if flags & _EXTENDED else 0):
            self.text()
            self.text()
        return mode, size, mtime

    def _take(self, count: int) -> bytes:
        data = self._data[self._at : self._at + count]
        if len(data) != count:
            raise ProtocolError("a field is longer than its packet")
        self._at += count
        return data


def string(data: bytes) -> bytes:
    """Returns a string as the protocol writes it."""
    return _U32.pack(len(data)) + data


class Wire:
    """Requests and answers on one channel. For one thread at a time."""

    def __init__(self, line: ByteChannel) -> None:
        self._line = line
        self._number = 0
        self._held, self._at = b"", 0
        self._late = bytearray()
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._dropped: set[int] = set()
        self.extensions = self._start()

    def ask(self, kind: Ask, body: bytes, *, later: bool = False) -> int:
        """Sends a request; returns its number, for `answer` or `drop`.

        With `later` it is sent together with others, before an answer is waited for: a message of its own costs 35 µs.
        """
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._late += _HEAD.pack(len(body) + 5, kind, self._number) + body
        if not later or len(self._late) >= _LATE:
            self.flush()
        return self._number

    def flush(self) -> None:
        """Sends the requests that were made with `later`."""
        if self._late:
            data, self._late = bytes(self._late), bytearray()
            self._line.sendall(data)

    def drop(self, number: int) -> None:
        """Drops the answer to a request, whenever it comes."""
        if self._answers.pop(number, None) is None:
            self._dropped.add(number)

    def answer(self, number: int, *kinds: AnswerType) -> bytes:
        """Returns the body of the answer to a request, of one of `kinds`. A status that is not OK raises `Declined`."""
        while number not in self._answers:
            self.flush()
            kind, got, body = self._packet()
            if got in self._dropped:
                self._dropped.discard(got)
            else:
                self._answers[got] = (kind, body)
        kind, body = self._answers.pop(number)
        if kind == AnswerType.STATUS:
            code, text = _status(body)
            if code != Status.OK:
                raise Declined(code, text)
        if kind not in kinds:
            raise ProtocolError(f"an answer of kind {kind}")
        return body

    def done(self, number: int) -> None:
        """Waits until a request is done; raises `Declined` if it failed."""
        self.answer(number, AnswerType.STATUS)

    def data(self, number: int) -> bytes:
        """Returns the bytes of a read; empty at the end of the file."""
        try:
            return self.answer(number, AnswerType.DATA)
        except Declined as no:
            if no.code == Status.EOF:
                return b""
            raise

    def _start(self) -> dict[bytes, bytes]:
        self._line.sendall(_HEAD.pack(5, Ask.INIT, 3))
        said = self._held = self._line.recv(_TAKE)
        try:
            kind, version, body = self._packet()
        except (ProtocolError, EOFError):
            if said:
                raise NotSftp(said[:_SAID].decode("utf-8", "replace").strip()) from None
            raise
        if kind != AnswerType.VERSION or version < 3:
            raise ProtocolError("not an SFTP server of version 3")
        fields, found = Fields(body), {}
        while fields:
            name = fields.text()
            found[name] = fields.text()
        return found

    def _packet(self) -> tuple[int, int, bytes]:
        """Returns kind, number and body. The body of DATA is the bytes alone: they are large, and not copied again."""
        length, kind, number = _HEAD.unpack(self._take(_HEAD.size))
        length -= _HEAD.size - 4
        if not 0 <= length <= MAX_PACKET:
            raise ProtocolError(f"a packet of {length} bytes")
        if kind != AnswerType.DATA:
            return kind, number, self._take(length)
        count = int.from_bytes(self._take(4), "big")
        if count > length - 4:
            raise ProtocolError("data is longer than its packet")
        data = self._take(count)
        self._take(length - 4 - count)
        return kind, number, data

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end <= len(self._held):
            found = self._held[self._at : end]
            self._at = end
            return found
        parts = [self._held[self._at :]]
        missing = count - len(parts[0])
        while missing > 0:
            # As much as there is: the channel's buffer is empty then, and need not be moved.
            data = self._line.recv(_TAKE)
            if not data:
                raise EOFError("the server closed the connection")
            parts.append(data[:missing])
            self._held, self._at = data, min(missing, len(data))
            missing -= len(data)
        return b"".join(parts)


def _status(body: bytes) -> tuple[int, str]:
    fields = Fields(body)
    code = fields.u32()
    return code, fields.text().decode("utf-8", "replace") if fields else ""
