"""The monitor of a guest's QEMU, for a few commands: a QMP socket serves one client at a time, and others wait for it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from phd_daemon.host.qmp import Qmp, QmpError
from phd_daemon.operations.instant.nbd_probe import peer_pid
from restore_core.naming import printable

_SECONDS = 90.0
"""For one answer. QEMU is silent while it waits for a server that is gone, for up to 60 s (`qemu_img.RECONNECT_SECONDS`)."""


class GuestMonitor:
    """One connection. `pid` is the process that listens at the socket; `where` names it in messages."""

    def __init__(self, path: Path) -> None:
        """Connects. Raises `QmpError`."""
        self.where = f"QEMU at {printable(str(path))}"
        self._qmp = Qmp.at(path, seconds=_SECONDS)
        with socket.socket(fileno=socket.dup(self._qmp.fileno())) as same:
            self.pid = peer_pid(same)

    def command(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Returns the answer to one command. Raises `QmpError` for a refusal."""
        return self._qmp.execute(name, dict(arguments or {}))

    def attempt(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Gives a command whose refusal does not matter; returns whether it was done. Raises `QmpError` if QEMU is gone."""
        try:
            self.command(name, arguments)
        except QmpError as error:
            if not error.kind:
                raise
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._qmp.close()
