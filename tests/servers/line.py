"""A line to a server that fails: it forwards what a client and the server say, until it does what it was told to.

    refuse     nobody listens on the port
    silent     the connection is accepted and nothing is ever said
    hole       after `after` bytes from the server nothing comes any more, and nothing is closed
    reset      after `after` bytes the client gets RST
    fin        after `after` bytes the client gets FIN
    drip       after `after` bytes one byte comes every 20 ms
    whole      nothing is wrong

`times` connections fail so; later ones are whole. In threads of the test's own process, gone with it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from restore_core.targets.remote.connection import Bandwidth


@dataclass(slots=True)
class Line:
    """A running line. `connections` counts those that were made."""

    to: int
    fault: str
    after: int
    times: int
    port: int = 0
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    limit: Bandwidth = field(default_factory=lambda: Bandwidth(0))

    def serve(self, door: socket.socket) -> None:
        while not self.over.is_set():
            try:
                client, _ = door.accept()
            except OSError:
                return
            self.connections += 1
            fault = self.fault if self.connections <= self.times else "whole"
            threading.Thread(target=self._pair, args=(client, fault), daemon=True).start()

    def _pair(self, client: socket.socket, fault: str) -> None:
        with client:
            if fault == "silent":
                self.over.wait()
                return
            with socket.create_connection(("127.0.0.1", self.to)) as server:
                back = threading.Thread(target=self._forward, args=(client, server, "whole"), daemon=True)
                back.start()
                self._forward(server, client, fault)
                back.join()

    def _forward(self, source: socket.socket, to: socket.socket, fault: str) -> None:
        left = self.after if fault != "whole" else 1 << 62
        with contextlib.suppress(OSError):
            while data := source.recv(min(65536, left)):
                self.limit.spend(len(data))
                to.sendall(data)
                left -= len(data)
                if not left:
                    self._fail(source, to, fault)
                    break
        for line in (source, to):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _fail(self, source: socket.socket, to: socket.socket, fault: str) -> None:
        match fault:
            case "hole":
                self.over.wait()
            case "drip":
                with contextlib.suppress(OSError):
                    while not self.over.is_set() and (byte := source.recv(1)):
                        to.sendall(byte)
                        time.sleep(0.02)
            case "reset":
                to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                to.close()


@contextlib.contextmanager
def line_to(port: int, fault: str, *, after: int = 0, times: int = 1_000_000) -> Iterator[Line]:
    """A line to a port of loopback."""
    line = Line(to=port, fault=fault, after=after, times=times)
    with socket.create_server(("127.0.0.1", 0)) as door:
        line.port = door.getsockname()[1]
        if fault == "refuse":
            door.close()
        else:
            threading.Thread(target=line.serve, args=(door,), daemon=True).start()
        yield line
        line.over.set()
        with contextlib.suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def slower(ports: range | list[int], limit: Bandwidth, host: str = "127.0.0.2") -> Iterator[None]:
    """The same ports of another address of loopback, at a bandwidth that all of them share: a network between."""
    with contextlib.ExitStack() as stack:
        for port in ports:
            line = Line(to=port, fault="whole", after=0, times=0, port=port, limit=limit)
            door = stack.enter_context(socket.create_server((host, port)))
            threading.Thread(target=line.serve, args=(door,), daemon=True).start()
            stack.callback(door.shutdown, socket.SHUT_RDWR)
        yield
