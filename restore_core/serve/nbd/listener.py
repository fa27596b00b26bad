"""The NBD server: its sockets, and who is let in. Each client has two threads; frames are decoded by those of the cache."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping

from restore_core.serve.nbd.byte_stream import Ended, PlainStream, TlsStream
from restore_core.serve.nbd.client import Client, Export, Traffic
from restore_core.serve.nbd.in_flight import InFlight
from restore_core.targets.base import Stop

MAX_CLIENTS = 64
"""Clients that have chosen an export."""
MAX_HANDSHAKES = 16
"""Clients that have not: those who may be nobody take no place of the others."""
_LOOK_EVERY = 0.25
_AFTER_FAILURE = 0.05
_SEND_BUFFER = 1 << 20
_JOIN_SECONDS = 5.0


class NbdServer:
    """Serves these exports on the sockets that are added. `serve` runs in the caller's thread."""

    def __init__(self, exports: Mapping[str, Export]) -> None:
        self._exports = exports
        self._in_flight = InFlight()
        self._lock = threading.Lock()
        self._clients: dict[Client, threading.Thread] = {}
        self._in_handshake: set[Client] = set()
        self._selector = selectors.DefaultSelector()
        self.traffic = Traffic()

    def listen(self, listening: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Adds a socket; with a context its clients must begin TLS before they are told anything."""
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ, context)

    def serve(self, stop: Stop) -> None:
        """Lets clients in until `stop` raises."""
        while True:
            stop()
            for key, _ in self._selector.select(_LOOK_EVERY):
                try:
                    connected, _ = key.fileobj.accept()  # type: ignore[union-attr]  # only sockets are registered
                except OSError:  # gone again, or no descriptor is free now
                    time.sleep(_AFTER_FAILURE)
                    continue
                try:
                    self._let_in(connected, key.data)
                except OSError:  # gone while it was let in
                    connected.close()

    def close(self) -> None:
        """Ends all clients."""
        self._selector.close()
        with self._lock:
            clients = dict(self._clients)
        for client in clients:
            client.end()
        for thread in clients.values():
            thread.join(_JOIN_SECONDS)

    def _let_in(self, connected: socket.socket, context: ssl.SSLContext | None) -> None:
        with self._lock:
            full = len(self._in_handshake) >= MAX_HANDSHAKES or len(self._clients) >= MAX_CLIENTS + MAX_HANDSHAKES
        if full:
            connected.close()
            return
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(
            stream=PlainStream(connected),
            exports=self._exports,
            in_flight=self._in_flight,
            traffic=self.traffic,
            secure=None if context is None else lambda deadline: TlsStream(connected, context, deadline),
        )
        client.chosen = lambda: self._has_chosen(client)
        thread = threading.Thread(target=self._run, args=(client,), name="nbd-read", daemon=True)
        with self._lock:
            self._clients[client] = thread
            self._in_handshake.add(client)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had now; the others are served
            self._forget(client)
            connected.close()

    def _run(self, client: Client) -> None:
        try:
            client.run()
        finally:
            self._forget(client)

    def _forget(self, client: Client) -> None:
        with self._lock:
            self._in_handshake.discard(client)
            self._clients.pop(client, None)

    def _has_chosen(self, client: Client) -> None:
        with self._lock:
            self._in_handshake.discard(client)
            if len(self._clients) - len(self._in_handshake) > MAX_CLIENTS:
                raise Ended("too many clients")
