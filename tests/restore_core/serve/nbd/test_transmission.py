"""Requests and replies without a socket."""

from __future__ import annotations

import struct

import pytest

from restore_core.serve.block_map import Extent
from restore_core.serve.nbd.messages import MAX_REQUEST, REQUEST, REQUEST_MAGIC, CommandFlag, NbdError, ProtocolBroken, RequestType
from restore_core.serve.nbd.transmission import Replies, Request, parse_request, refused_at_once

SIZE = 1 << 40


def request(command: int, offset: int = 0, length: int = 512, flags: int = 0) -> Request:
    return parse_request(REQUEST.pack(REQUEST_MAGIC, flags, command, 9, offset, length))


def error(asked: Request, *, block_status: bool = True) -> NbdError | None:
    return refused_at_once(asked, size=SIZE, block_status=block_status)


@pytest.mark.parametrize("command", [RequestType.WRITE, RequestType.TRIM, RequestType.WRITE_ZEROES])
def test_whatever_would_change_the_disk_is_not_permitted(command: RequestType) -> None:
    assert error(request(command)) is NbdError.EPERM
    assert error(request(command, flags=CommandFlag.FUA)) is NbdError.EPERM


@pytest.mark.parametrize(
    "asked",
    [
        request(RequestType.READ, length=0),
        request(RequestType.READ, SIZE - 511),
        request(RequestType.READ, 2**64 - 1, 2),
        request(RequestType.READ, 0, MAX_REQUEST + 1),
        request(RequestType.READ, flags=CommandFlag.REQ_ONE),
        request(RequestType.READ, flags=1 << 9),
        request(RequestType.CACHE, SIZE, 1),
        request(RequestType.BLOCK_STATUS, 0, 0),
        request(8),
        request(999),
    ],
)
def test_a_request_that_cannot_be_meant_is_invalid(asked: Request) -> None:
    assert error(asked) is NbdError.EINVAL


def test_block_status_must_have_been_agreed_on() -> None:
    asked = request(RequestType.BLOCK_STATUS, 0, 2**32 - 1, CommandFlag.REQ_ONE)
    assert error(asked) is None
    assert error(asked, block_status=False) is NbdError.EINVAL


def test_the_last_byte_and_the_largest_request_are_served() -> None:
    assert error(request(RequestType.READ, SIZE - 1, 1)) is None
    assert error(request(RequestType.READ, 0, MAX_REQUEST, CommandFlag.DF)) is None
    assert error(request(RequestType.FLUSH, 0, 0)) is None


def test_what_is_no_request_or_a_write_without_end_ends_the_connection() -> None:
    with pytest.raises(ProtocolBroken):
        parse_request(bytes(REQUEST.size))
    with pytest.raises(ProtocolBroken):
        _ = request(RequestType.WRITE, 0, MAX_REQUEST + 1).payload
    assert request(RequestType.WRITE, 0, MAX_REQUEST).payload == MAX_REQUEST
    assert request(RequestType.READ, 0, 5).payload == 0


def test_zeros_travel_as_a_hole_unless_the_client_wants_one_piece() -> None:
    spans = [(4, [memoryview(b"ab"), memoryview(b"cd")]), (6, None)]
    replies = Replies(structured=True)
    in_chunks = b"".join(replies.data(request(RequestType.READ, 100, 10), spans))
    assert in_chunks.endswith(struct.pack(">QI", 104, 6))
    in_one = b"".join(replies.data(request(RequestType.READ, 100, 10, CommandFlag.DF), spans))
    assert in_one.endswith(struct.pack(">Q", 100) + b"abcd" + bytes(6))
    assert b"".join(Replies(structured=False).data(request(RequestType.READ, 100, 10), spans))[16:] == b"abcd" + bytes(6)


def test_block_status_says_hole_and_zero_for_zero_blocks() -> None:
    reply = Replies(structured=True).block_status(request(RequestType.BLOCK_STATUS), [Extent(7, zero=True), Extent(9, zero=False)])
    assert reply.endswith(struct.pack(">IIIII", 1, 7, 3, 9, 0))
