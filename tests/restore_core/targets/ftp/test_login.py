"""Servers that speak first in another way, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restore_core.errors import TargetRefused
from restore_core.targets.base import TargetSpec
from restore_core.targets.ftp import login
from restore_core.targets.kinds import make_target, server_identity
from tests import servers
from tests.restore_core.targets import conftest
from tests.servers import Served

QUICK = dataclasses.replace(conftest.QUICK, connect=3.0)
"""Such a server is asked in TLS only once it was silent for as long as a connection may take."""


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does `serve` with each connection; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def accept() -> None:
            while True:
                try:
                    line, _ = door.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(line,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def implicit() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="phd-") as folder, servers.pyftpd(Path(folder), tls=True, implicit=True) as served:
        yield served


def test_a_server_that_speaks_tls_at_once_is_served(implicit: Served) -> None:
    """It was waited for, a minute, while it waited for us."""
    (implicit.store / "f").mkdir()
    (implicit.store / "f/x").write_bytes(b"abc")
    target = make_target(implicit.spec, QUICK)
    assert [each.path for each in target.listing()] == ["f/x"]
    with target.open("f/x") as source:
        assert source.read_at(1, 2) == b"bc"
    target.close()


def test_a_server_that_speaks_tls_at_once_shows_its_certificate(implicit: Served) -> None:
    assert server_identity(implicit.spec, QUICK).known


def test_a_server_that_speaks_tls_at_once_behind_ftp_is_named(implicit: Served) -> None:
    target = make_target(dataclasses.replace(implicit.spec, url=implicit.spec.url.replace("ftps:", "ftp:")), QUICK)
    with pytest.raises(TargetRefused, match="TLS at once") as caught:
        list(target.listing())
    assert "ftps://" in caught.value.remedy
    target.close()


@pytest.mark.parametrize(
    ("first", "answer", "named"),
    [(b"SSH-2.0-OpenSSH_9.2\r\n", b"", "an SSH server"), (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server")],
)
def test_a_server_of_another_kind_is_named(first: bytes, answer: bytes, named: str) -> None:
    def serve(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.sendall(first)
            if line.recv(4096):
                line.sendall(answer)

    with listening(serve) as port:
        target = make_target(TargetSpec(name="nas", url=f"ftp://127.0.0.1:{port}/"), QUICK)
        with pytest.raises(TargetRefused, match=named):
            list(target.listing())
        target.close()


def test_user_and_password_are_sent_as_utf_8_and_are_in_no_message(tmp_path: Path) -> None:
    """A password with a euro sign ended in a traceback; one with an umlaut was sent as latin-1, and refused."""
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            with contextlib.suppress(OSError):
                line, _ = door.accept()
                with line, line.makefile("rb") as lines:
                    line.sendall(b"220 x\r\n")
                    for answer in (b"331 go on", b"530 refused: "):
                        said = lines.readline()
                        heard.extend(said)
                        line.sendall(answer + said[5:].strip() * answer.startswith(b"530") + b"\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"ftp://b%C3%BCro@127.0.0.1:{door.getsockname()[1]}/"
        spec = TargetSpec(name="nas", url=url, password_file=servers.write_password(tmp_path, "\ufeffgeheim€ü"))
        target = make_target(spec, QUICK)
        with pytest.raises(TargetRefused, match=r"refuses the login of büro: 530 refused: \.\.\.") as caught:
            list(target.listing())
        target.close()
        thread.join()
    assert bytes(heard) == "USER büro\r\nPASS geheim€ü\r\n".encode()
    assert "geheim" not in str(caught.value)


def test_a_server_that_speaks_in_clear_where_tls_is_to_begin_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was "wrong version number", and the question whether that machine is up; ftps://host:990 of an explicit server."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]

        def serve() -> None:
            with contextlib.suppress(OSError):
                line, _ = door.accept()
                with line:
                    line.sendall(b"220 ready\r\n")
                    while line.recv(4096):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setattr("restore_core.targets.ftp.login._speak_tls_at_once", {("127.0.0.1", port)})
        target = make_target(TargetSpec(name="nas", url=f"ftps://127.0.0.1:{port}/"), QUICK)
        with pytest.raises(TargetRefused, match="answers in clear where TLS is to begin") as caught:
            list(target.listing())
        target.close()
        thread.join()
    assert "on 990" in caught.value.remedy


def test_a_server_that_greets_late_is_not_taken_for_one_that_speaks_tls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that looks up our name before it greets says nothing for a while; what it was sent meanwhile spoils its session."""
    monkeypatch.setattr(login, "_SILENCE", 0.5)
    sessions: list[list[bytes]] = []

    def serve(line: socket.socket) -> None:
        got: list[bytes] = []
        sessions.append(got)
        with line, contextlib.suppress(OSError):
            time.sleep(1)
            line.sendall(b"220 at last\r\n")
            while data := line.recv(4096):
                got.append(data)
                line.sendall(b"530 not this user\r\n")

    with listening(serve) as port:
        target = make_target(TargetSpec(name="nas", url=f"ftp://127.0.0.1:{port}/"), conftest.QUICK)
        with pytest.raises(TargetRefused, match="530 not this user"):
            list(target.listing())
        target.close()
    assert sessions[1] == [b"USER anonymous\r\n"]
    assert len(sessions) == 2
