from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restore_core.errors import Stopped
from restore_core.serve.disk import ServedDisk
from restore_core.serve.nbd.client import Export
from restore_core.serve.nbd.listener import NbdServer
from restore_core.serve.nbd.own_socket import own_socket
from tests.restore_core.serve.nbd.raw_client import RawClient


class Running:
    """A server in a thread, on the socket `path`."""

    def __init__(self, server: NbdServer, path: Path) -> None:
        self.server, self.path = server, path
        self._clients: list[RawClient] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def client(self) -> RawClient:
        self._clients.append(RawClient.on(self.path))
        return self._clients[-1]

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self.server.close()

    def end(self) -> None:
        self.stop()
        for one in self._clients:
            one.close()

    def _run(self) -> None:
        with contextlib.suppress(Stopped):
            self.server.serve(self._stop)

    def _stop(self) -> None:
        if self._over.is_set():
            raise Stopped("the test is over")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[[ServedDisk], Running]]:
    running: list[Running] = []
    with own_socket(tmp_path / "sockets" / "s.sock") as listening:

        def begin(disk: ServedDisk) -> Running:
            server = NbdServer({"": Export(disk=disk, description="the disk")})
            server.listen(listening)
            running.append(Running(server, tmp_path / "sockets" / "s.sock"))
            return running[-1]

        yield begin
        for one in running:
            one.end()


@pytest.fixture
def running(serving: Callable[[ServedDisk], Running], disk: ServedDisk) -> Running:
    return serving(disk)
