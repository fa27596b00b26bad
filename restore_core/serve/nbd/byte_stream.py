"""The bytes of one client: received exactly, sent whole, each with an end in time. Plain, or in TLS.

One thread receives while another one sends. OpenSSL allows no two calls on one connection at a time, so those of TLS do not block:
they are made one after the other, and the waiting is done outside of them.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

SEND_SECONDS = 60.0
"""How long a client may leave its replies unread until it is closed: they take room that others need."""
_PARTS_AT_ONCE = 512
"""Parts given to the kernel at once; it takes 1024."""
_TLS_PIECE = 1 << 18


class Ended(Exception):
    """The client is gone, or was too slow."""


class ByteStream(Protocol):
    """What a client's threads use. `deadline` is a time of `time.monotonic`, None: none."""

    def receive_into(self, view: memoryview, deadline: float | None = None) -> None:
        """Fills the view. Raises `Ended`."""

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Sends all. Raises `Ended`, also after `SEND_SECONDS` in which the client took nothing."""

    def shut(self) -> None:
        """Ends what the other threads wait for with `Ended`. Harmless when repeated."""

    def close(self) -> None:
        """Closes the socket, when no thread uses it any more."""


def received(stream: ByteStream, count: int, deadline: float | None = None) -> bytes:
    """Returns exactly so many bytes. Raises `Ended`."""
    data = bytearray(count)
    stream.receive_into(memoryview(data), deadline)
    return bytes(data)


class PlainStream:
    """A socket without TLS."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        connected.settimeout(None)
        # The timeout of Python holds for both directions; only sending has one.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(SEND_SECONDS), 0))

    def receive_into(self, view: memoryview, deadline: float | None = None) -> None:
        """Fills the view. Raises `Ended`."""
        got = 0
        while got < len(view):
            if deadline is not None:
                _wait(self.socket, deadline, select.POLLIN)
            try:
                count = self.socket.recv_into(view[got:])
            except OSError as error:
                raise Ended(str(error)) from error
            if not count:
                raise Ended("closed by the client")
            got += count

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Sends all. Raises `Ended`."""
        try:
            for start in range(0, len(parts), _PARTS_AT_ONCE):
                some = parts[start : start + _PARTS_AT_ONCE]
                sent = self.socket.sendmsg(some)
                if sent < sum(map(len, some)):
                    self._send_rest(some, sent)
        except OSError as error:
            raise Ended(str(error)) from error

    def _send_rest(self, parts: Sequence[bytes | memoryview], sent: int) -> None:
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            rest = memoryview(part)[sent:]
            sent = 0
            while rest:
                rest = rest[self.socket.send(rest) :]

    def shut(self) -> None:
        """Ends what the other threads wait for."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


class TlsStream:
    """A socket in TLS. The client has proven itself by its certificate when this was made."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, deadline: float) -> None:
        """Does the handshake of TLS. Raises `Ended`."""
        connected.setblocking(False)
        self._lock = threading.Lock()
        try:
            self._tls = context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            raise Ended(str(error)) from error
        try:
            self._repeat(self._shake_hands, deadline)
        except Ended:
            self._tls.close()
            raise

    def receive_into(self, view: memoryview, deadline: float | None = None) -> None:
        """Fills the view. Raises `Ended`."""
        while view:
            count = self._repeat(partial(self._tls.recv_into, view), deadline)
            if not count:
                raise Ended("closed by the client")
            view = view[count:]

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Sends all. Raises `Ended`."""
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[self._repeat(partial(self._tls.send, rest[:_TLS_PIECE]), time.monotonic() + SEND_SECONDS) :]

    def shut(self) -> None:
        """Ends what the other threads wait for."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._tls, socket.SHUT_RDWR)  # its own `shutdown` would go on in the clear

    def close(self) -> None:
        """Closes the socket."""
        self._tls.close()

    def _shake_hands(self) -> int:
        self._tls.do_handshake()
        return 0

    def _repeat(self, act: Callable[[], int], deadline: float | None) -> int:
        """Returns what `act` returns, when the socket is ready for it."""
        while True:
            try:
                with self._lock:
                    return act()
            except ssl.SSLWantReadError:
                _wait(self._tls, deadline, select.POLLIN)
            except ssl.SSLWantWriteError:
                _wait(self._tls, deadline, select.POLLOUT)
            except (OSError, ValueError) as error:  # SSLError is an OSError
                raise Ended(str(error)) from error


def _wait(waiting: socket.socket, deadline: float | None, what: int) -> None:
    """Waits until the socket can be read from, or sent to. Raises `Ended` when the time is over."""
    seconds = None if deadline is None else deadline - time.monotonic()
    poll = select.poll()
    try:
        poll.register(waiting, what)
        if (seconds is not None and seconds <= 0) or not poll.poll(None if seconds is None else seconds * 1000):
            raise Ended("too slow")
    except (OSError, ValueError) as error:
        raise Ended(str(error)) from error
