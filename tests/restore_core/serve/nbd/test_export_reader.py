"""The client that reads one export: what it takes for a fault of the server."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from restore_core.serve.nbd.export_reader import FaultKind, NbdFault, NbdReader

GREETING = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 3)
INFO = struct.pack(">QIIIHQH", 0x3E889045565A9, 7, 3, 12, 0, 4096, 1)
ACK = struct.pack(">QIII", 0x3E889045565A9, 7, 1, 0)
NO = struct.pack(">QIII", 0x3E889045565A9, 7, 0x80000006, 0)


@contextmanager
def server(path: Path, *says: bytes) -> Iterator[Path]:
    """A server that says these bytes, whatever it is asked, and ends when its client does."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def speak() -> None:
            client, _ = listening.accept()
            with client, contextlib.suppress(ConnectionResetError):  # it left before it had read all
                client.sendall(b"".join(says))
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass

        thread = threading.Thread(target=speak)
        thread.start()
        yield path
        thread.join()


def reply(data: bytes, *, error: int = 0, cookie: int = 1, magic: int = 0x67446698) -> bytes:
    return struct.pack(">IIQ", magic, error, cookie) + data


def test_it_reads_what_the_export_has(tmp_path: Path) -> None:
    with server(tmp_path / "s", GREETING, INFO, ACK, reply(b"abcd")) as path, NbdReader(path, "x", seconds=10) as reader:
        assert (reader.size, reader.read(0, 4)) == (4096, b"abcd")


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n",), FaultKind.NO_SERVER),
        ((GREETING, NO), FaultKind.NO_EXPORT),
        ((GREETING, b"x" * 20), FaultKind.NO_EXPORT),
        ((GREETING, struct.pack(">QIII", 0x3E889045565A9, 7, 3, 1 << 31)), FaultKind.NO_EXPORT),
        ((GREETING, INFO, ACK, reply(b"", error=5)), FaultKind.BAD_BLOCK),
        ((GREETING, INFO, ACK, reply(b"abcd", cookie=2)), FaultKind.NO_ANSWER),
        ((GREETING, INFO, ACK, reply(b"abcd", magic=1)), FaultKind.NO_ANSWER),
    ],
)
def test_another_answer_is_a_fault(says: tuple[bytes, ...], kind: FaultKind, tmp_path: Path) -> None:
    def use(path: Path) -> None:
        with NbdReader(path, seconds=10) as reader:
            reader.read(0, 4)

    with server(tmp_path / "s", *says) as path, pytest.raises(NbdFault) as caught:
        use(path)
    assert caught.value.kind is kind


@pytest.mark.parametrize("says", [(), (GREETING,), (GREETING, INFO, ACK), (GREETING, INFO, ACK, reply(b"ab"))])
def test_an_end_is_an_error_of_the_connection(says: tuple[bytes, ...], tmp_path: Path) -> None:
    def use(path: Path) -> None:
        with NbdReader(path, seconds=10) as reader:
            reader.read(0, 4)

    with server(tmp_path / "s", *says) as path, pytest.raises(ConnectionResetError, match="closed"):
        use(path)
