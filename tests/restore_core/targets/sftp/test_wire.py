"""The SFTP protocol against an imagined server: in pieces, out of order, and lying."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.targets.sftp.wire import MAX_PACKET, AnswerType, Ask, Declined, Fields, ProtocolError, Wire, string


def packet(kind: int, number: int, body: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(body) + 5, kind, number) + body


HELLO = packet(AnswerType.VERSION, 3, string(b"posix-rename@openssh.com") + string(b"1"))


class Script:
    """A line on which these bytes come, in pieces of `piece`."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self.data, self.piece, self.sent = data, piece, b""

    def recv(self, size: int) -> bytes:
        taken, self.data = self.data[: min(size, self.piece)], self.data[min(size, self.piece) :]
        return taken

    def sendall(self, data: bytes) -> None:
        self.sent += data


@given(st.integers(1, 40), st.binary(max_size=100))
def test_answers_in_pieces_and_out_of_order(piece: int, data: bytes) -> None:
    answers = packet(AnswerType.DATA, 2, string(data)) + packet(AnswerType.STATUS, 3, struct.pack(">I", 0) + string(b"ok"))
    wire = Wire(Script(HELLO + answers + packet(AnswerType.HANDLE, 1, string(b"h")), piece))
    assert wire.extensions == {b"posix-rename@openssh.com": b"1"}
    opened, read, closed = (wire.ask(kind, b"") for kind in (Ask.OPEN, Ask.READ, Ask.CLOSE))
    wire.done(closed)
    assert Fields(wire.answer(opened, AnswerType.HANDLE)).text() == b"h"
    assert wire.data(read) == data


def test_dropped_answers_are_passed_over() -> None:
    wire = Wire(Script(HELLO + packet(AnswerType.DATA, 1, string(b"old")) + packet(AnswerType.DATA, 2, string(b"new"))))
    old, new = wire.ask(Ask.READ, b""), wire.ask(Ask.READ, b"")
    wire.drop(old)
    assert wire.data(new) == b"new"


def test_the_end_of_a_file_and_a_refusal() -> None:
    status = [packet(AnswerType.STATUS, n, struct.pack(">I", code) + string(b"why")) for n, code in ((1, 1), (2, 3), (3, 3))]
    wire = Wire(Script(HELLO + b"".join(status)))
    assert wire.data(wire.ask(Ask.READ, b"")) == b""
    with pytest.raises(Declined, match="why"):
        wire.data(wire.ask(Ask.READ, b""))
    with pytest.raises(Declined, match="why"):
        wire.done(wire.ask(Ask.REMOVE, b""))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IBI", MAX_PACKET + 100, AnswerType.DATA, 1),
        struct.pack(">IBI", 0, AnswerType.DATA, 1),
        packet(AnswerType.DATA, 1, struct.pack(">I", 50) + b"short"),
        packet(AnswerType.HANDLE, 1, b""),
        packet(99, 1, b""),
    ],
)
def test_lies_about_lengths_and_kinds(data: bytes) -> None:
    wire = Wire(Script(HELLO + data + bytes(100)))
    with pytest.raises(ProtocolError):
        wire.data(wire.ask(Ask.READ, b""))


def test_a_server_that_hangs_up() -> None:
    wire = Wire(Script(HELLO + packet(AnswerType.DATA, 1, string(b"x" * 50))[:-10]))
    with pytest.raises(EOFError):
        wire.data(wire.ask(Ask.READ, b""))


@pytest.mark.parametrize("hello", [b"SSH-2.0-x\r\n" + bytes(40), packet(AnswerType.VERSION, 2), packet(AnswerType.STATUS, 3)])
def test_what_does_not_speak_sftp(hello: bytes) -> None:
    with pytest.raises(ProtocolError):
        Wire(Script(hello))


@given(st.binary(max_size=60))
def test_attributes_of_any_bytes(data: bytes) -> None:
    try:
        found = Fields(data).attributes()
    except ProtocolError:
        return
    assert found.size is None or found.size >= 0


def test_attributes() -> None:
    data = struct.pack(">IQIIIII", 0xF, 5_000_000_000, 1, 2, 0o100644, 7, 1_700_000_000)
    found = Fields(data).attributes()
    assert (found.regular, found.folder, found.size, found.mtime) == (True, False, 5_000_000_000, 1_700_000_000.0)


def test_a_size_that_is_not_told_is_not_known_and_never_0() -> None:
    found = Fields(struct.pack(">III", 0x4, 0o100644, 0)).attributes()
    assert (found.regular, found.size) == (True, None)
