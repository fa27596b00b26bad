"""What systemd hears, over path and abstract sockets, and that nothing happens without it."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest

from phd_daemon.daemon.systemd import Notifier


@pytest.mark.parametrize("abstract", [True, False])
def test_messages(tmp_path: Path, *, abstract: bool) -> None:
    name = f"@phd-{secrets.token_hex(8)}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(30)
        environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
        notifier = Notifier(environ)
        assert environ == {"HOME": "/"}
        assert notifier.watchdog_seconds == 3.0
        notifier.ready("1 of 2")
        notifier.alive()
        notifier.status("x")
        notifier.reloading()
        notifier.stopping("bye")
        said = [systemd.recv(1000).decode() for _ in range(5)]
    assert said[0] == "READY=1\nSTATUS=1 of 2"
    assert said[1] == "WATCHDOG=1"
    assert said[2] == "STATUS=x"
    assert said[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert said[4] == "STOPPING=1\nSTATUS=bye"


def test_without_systemd() -> None:
    notifier = Notifier({})
    assert notifier.watchdog_seconds is None
    notifier.ready("x")
    notifier.alive()


def test_a_dead_socket_is_not_our_trouble(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("x")


def test_a_watchdog_for_another_process() -> None:
    assert Notifier({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).watchdog_seconds is None


def test_a_socket_that_nobody_reads_never_stops_the_loop(tmp_path: Path) -> None:
    """Seen once: the queue of the socket was full, and the daemon waited in `sendall` for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "socket"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "socket")})
        for number in range(10_000):
            notifier.status(f"turn {number}")


def test_a_status_is_said_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "socket"))
        systemd.settimeout(30)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "socket")})
        for text in ("a", "a", "b"):
            notifier.status(text)
        assert [systemd.recv(100), systemd.recv(100)] == [b"STATUS=a", b"STATUS=b"]
