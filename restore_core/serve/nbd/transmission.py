"""Requests and replies after the handshake, without a socket. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from restore_core.serve.block_map import Extent
from restore_core.serve.nbd.messages import (
    CHUNK,
    CONTEXT_ID,
    DONE,
    HOLE_AND_ZERO,
    MAX_REQUEST,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    ChunkType,
    CommandFlag,
    NbdError,
    ProtocolBroken,
    RequestType,
)

_FLAGS = {
    RequestType.READ: CommandFlag.DF | CommandFlag.FUA,
    RequestType.BLOCK_STATUS: CommandFlag.REQ_ONE | CommandFlag.FUA,
    RequestType.CACHE: CommandFlag.FUA,
    RequestType.FLUSH: CommandFlag.FUA,
}
_WRITES = (RequestType.WRITE, RequestType.TRIM, RequestType.WRITE_ZEROES)


class Request(NamedTuple):
    """One request, as it came. `offset` and `length` are bytes; nothing was checked but the magic."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int

    @property
    def payload(self) -> int:
        """How many bytes of data follow it. Raises `ProtocolBroken` if these are more than a request may bring."""
        if self.command != RequestType.WRITE:
            return 0
        if self.length > MAX_REQUEST:
            raise ProtocolBroken(f"a write of {self.length} bytes")
        return self.length


def parse_request(head: bytes | bytearray) -> Request:
    """Returns the request of these 28 bytes. Raises `ProtocolBroken`."""
    magic, flags, command, cookie, offset, length = REQUEST.unpack(head)
    if magic != REQUEST_MAGIC:
        raise ProtocolBroken("no request")
    return Request(flags, command, cookie, offset, length)


def refused_at_once(request: Request, *, size: int, block_status: bool) -> NbdError | None:
    """Returns the error with which a request is answered at once; None if it can be served from a disk of `size` bytes."""
    if request.command in _WRITES:
        return NbdError.EPERM
    allowed = next((flags for command, flags in _FLAGS.items() if command == request.command), None)
    if allowed is None or request.flags & ~int(allowed):
        return NbdError.EINVAL
    if request.command == RequestType.FLUSH:
        return None
    if not request.length or request.offset > size or request.length > size - request.offset:
        return NbdError.EINVAL
    if request.command == RequestType.READ and request.length > MAX_REQUEST:
        return NbdError.EINVAL
    if request.command == RequestType.BLOCK_STATUS and not block_status:
        return NbdError.EINVAL
    return None


class Replies:
    """Makes replies in the form that was agreed on. They are parts to be sent one after the other."""

    def __init__(self, *, structured: bool) -> None:
        self._structured = structured

    def ok(self, request: Request) -> bytes:
        """Returns the reply to a request that asks for no data."""
        if self._structured:
            return CHUNK.pack(STRUCTURED_REPLY_MAGIC, DONE, ChunkType.NONE, request.cookie, 0)
        return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, request.cookie)

    def error(self, request: Request, error: NbdError) -> bytes:
        """Returns the reply that says that it failed."""
        if self._structured:
            head = CHUNK.pack(STRUCTURED_REPLY_MAGIC, DONE, ChunkType.ERROR, request.cookie, 6)
            return head + struct.pack(">IH", error, 0)
        return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, request.cookie)

    def data(self, request: Request, spans: Sequence[tuple[int, Sequence[memoryview] | None]]) -> Iterator[bytes | memoryview]:
        """Yields the parts of a reply with data. `spans` are in order: length in bytes, and the bytes, None for zeros."""
        if not self._structured:
            yield SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, request.cookie)
            for length, pieces in spans:
                yield from zeros(length) if pieces is None else pieces
        elif request.flags & CommandFlag.DF:
            yield self._data_head(request, request.offset, request.length, last=True)
            for length, pieces in spans:
                yield from zeros(length) if pieces is None else pieces
        else:
            yield from self._chunks(request, spans)

    def _chunks(self, request: Request, spans: Sequence[tuple[int, Sequence[memoryview] | None]]) -> Iterator[bytes | memoryview]:
        at = request.offset
        end = request.offset + request.length
        for length, pieces in spans:
            last = at + length == end
            if pieces is None:
                yield CHUNK.pack(STRUCTURED_REPLY_MAGIC, DONE if last else 0, ChunkType.OFFSET_HOLE, request.cookie, 12) + (
                    struct.pack(">QI", at, length)
                )
            else:
                yield self._data_head(request, at, length, last=last)
                yield from pieces
            at += length

    def _data_head(self, request: Request, offset: int, length: int, *, last: bool) -> bytes:
        head = CHUNK.pack(STRUCTURED_REPLY_MAGIC, DONE if last else 0, ChunkType.OFFSET_DATA, request.cookie, length + 8)
        return head + struct.pack(">Q", offset)

    def block_status(self, request: Request, extents: Iterable[Extent]) -> bytes:
        """Returns the reply that tells which parts of a range are zero."""
        states = b"".join(struct.pack(">II", extent.length, HOLE_AND_ZERO if extent.zero else 0) for extent in extents)
        head = CHUNK.pack(STRUCTURED_REPLY_MAGIC, DONE, ChunkType.BLOCK_STATUS, request.cookie, 4 + len(states))
        return head + struct.pack(">I", CONTEXT_ID) + states


_ZEROS = memoryview(bytes(1 << 20))


def zeros(length: int) -> Iterator[memoryview]:
    """Yields so many zero bytes, in pieces of one buffer."""
    for at in range(0, length, len(_ZEROS)):
        yield _ZEROS[: length - at]
