"""Tells systemd what the daemon is doing: sd_notify(3) without a library. Not under systemd every call does nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Sends to the socket named in the environment, and removes that variable: workers must not send for us."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._status = ""
        self.watchdog_seconds = _watchdog(environ)
        """How often systemd expects `alive`; None when it does not."""

    def ready(self, status: str) -> None:
        """The daemon has started, or has reloaded its settings."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Sets the line in `systemctl status`; sent only when it changes."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def alive(self) -> None:
        """The loop makes progress. Called by the loop and by nothing else."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The daemon reads its settings again, until `ready`."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The daemon is stopping."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of an abstract socket. An error here must not disturb the daemon.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A full socket is not waited for either: the loop must go on, and the next turn sends again.
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as to:
            to.connect(address)
            to.send(message.encode())


def _watchdog(environ: MutableMapping[str, str]) -> float | None:
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
