"""Speaks QMP, the protocol of a QEMU's monitor, on its Unix socket: one command, one answer. Events are passed over.

A socket serves one client at a time, and others wait for it: a connection is kept for a few commands only.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from restore_core.errors import TryAgainLater, UsageError
from restore_core.naming import printable

_SECONDS = 90.0
"""For one answer. QEMU is silent while it waits for a server that is gone, for up to 60 s (`qemu_img.RECONNECT_SECONDS`)."""
_MOST = 16 << 20


class Qmp:
    """One connection. Raises `UsageError` for a socket that is none of a QEMU, `TryAgainLater` for what QEMU refuses."""

    def __init__(self, path: Path) -> None:
        self.where = f"QEMU at {printable(str(path))}"
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(_SECONDS)
            self._socket.connect(os.fspath(path))
            self.pid = int(struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
            self._file = self._socket.makefile("rb")
            if "QMP" not in self._next():
                raise UsageError(
                    f"{self.where}: that is no QMP socket", remedy="QEMU has one with -qmp unix:PATH,server=on,wait=off."
                )
            self.command("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise UsageError(
                f"{self.where}: no answer: {error.strerror or error}",
                remedy="Name the socket of the QEMU that runs the guest; another program may use it at the moment.",
            ) from error
        except BaseException:
            self._socket.close()
            raise

    def command(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Returns the answer to one command."""
        answer = self._ask(name, arguments)
        if "error" in answer:
            said = printable(str(answer["error"].get("desc", "")))
            raise TryAgainLater(f"{self.where}: {name}: {said}", remedy="Mend that, then give 'phd instant finish' again.")
        return answer["return"]

    def attempt(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Gives a command whose refusal does not matter; returns whether it was done."""
        return "return" in self._ask(name, arguments)

    def _ask(self, name: str, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            self._socket.sendall(json.dumps({"execute": name, "arguments": dict(arguments or {})}).encode() + b"\n")
            while True:
                answer = self._next()
                if "return" in answer or "error" in answer:
                    return answer
        except OSError as error:
            raise TryAgainLater(
                f"{self.where}: {name}: {error.strerror or error}",
                remedy="Look whether the guest still runs, then give 'phd instant finish' again: it goes on where it ended.",
            ) from error

    def _next(self) -> dict[str, Any]:
        line = self._file.readline(_MOST)
        if not line:
            raise ConnectionResetError("it closed the connection")
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._socket.close()
