"""A client of QEMU's monitor (QMP): JSON lines over a Unix socket, one command at a time; events wait until somebody asks for them.

Written here and not taken from `qemu.qmp`: that is made for asyncio, which nothing of phd uses, and what is needed is this page.
What QEMU sends is believed no further than a guest may be: a line has a limit, and every answer a time.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

from restore_core.errors import TryAgainLater
from restore_core.naming import printable

MAX_LINE = 8 << 20
"""Bytes that one answer may have; query-named-block-nodes has the longest ones."""
_SECONDS = 30.0


class QmpError(TryAgainLater):
    """QEMU refuses a command, does not answer, or is gone. `kind` is the class of its refusal, '' if it gave no answer."""

    def __init__(self, message: str, *, kind: str = "") -> None:
        super().__init__(message, remedy="Look at QEMU's own log; 'query-status' in its monitor shows how the guest is.")
        self.kind = kind


class Qmp:
    """A monitor that is ready for commands. One thread uses it."""

    def __init__(self, connected: socket.socket, *, seconds: float = _SECONDS) -> None:
        """Takes over a connected socket, and agrees on the protocol. Raises `QmpError`."""
        self._socket, self._seconds, self._buffer = connected, seconds, bytearray()
        self.events: deque[dict[str, Any]] = deque(maxlen=10_000)
        deadline = time.monotonic() + seconds
        if "QMP" not in self._message(deadline, "its greeting"):
            raise QmpError("what answers there is no monitor of QEMU")
        self.execute("qmp_capabilities")

    @classmethod
    def at(cls, path: Path, *, seconds: float = _SECONDS) -> Self:
        """Connects to the socket of a monitor. Raises `QmpError`."""
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.settimeout(seconds)
            connected.connect(str(path))
            return cls(connected, seconds=seconds)
        except OSError as error:
            connected.close()
            raise QmpError(f"{printable(str(path))}: QEMU's monitor cannot be reached: {error.strerror or error}") from error
        except BaseException:
            connected.close()
            raise

    def execute(self, command: str, arguments: dict[str, Any] | None = None, *, seconds: float | None = None) -> Any:
        """Runs a command and returns what it returns. Raises `QmpError`."""
        deadline = time.monotonic() + (self._seconds if seconds is None else seconds)
        asked: dict[str, Any] = {"execute": command}
        if arguments:
            asked["arguments"] = arguments
        self._send(json.dumps(asked).encode() + b"\n", command)
        while True:
            found = self._message(deadline, command)
            if "error" in found:
                error = found["error"]
                raise QmpError(f"QEMU refuses {command}: {printable(str(error.get('desc')))}", kind=str(error.get("class")))
            if "return" in found:
                return found["return"]

    def wait_for(
        self, names: Collection[str], *, seconds: float, fits: Callable[[dict[str, Any]], bool] = lambda _event: True
    ) -> dict[str, Any] | None:
        """Takes the next event of these names that `fits` out of the queue, and returns it; None after that time. Others stay."""
        deadline = time.monotonic() + seconds
        passed: list[dict[str, Any]] = []
        try:
            while True:
                while self.events:
                    event = self.events.popleft()
                    if event["event"] in names and fits(event):
                        return event
                    passed.append(event)
                if not self._read(deadline):
                    return None
        finally:
            self.events.extendleft(reversed(passed))

    def fileno(self) -> int:
        """Returns the descriptor, for `select`."""
        return self._socket.fileno()

    def take_events(self) -> list[dict[str, Any]]:
        """Returns the events that came until now, and does not wait. Raises `QmpError` if QEMU is gone."""
        while self._read(time.monotonic()):
            pass
        found = list(self.events)
        self.events.clear()
        return found

    def close(self) -> None:
        """Closes the connection. Harmless when repeated."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, data: bytes, command: str) -> None:
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(data)
        except OSError as error:
            raise QmpError(f"QEMU's monitor is gone at {command}: {error.strerror or error}") from error

    def _message(self, deadline: float, doing: str) -> dict[str, Any]:
        """Returns the next message that is no event."""
        while True:
            found = self._next(deadline)
            if found is None:
                raise QmpError(f"QEMU's monitor does not answer ({doing})")
            if "event" not in found:
                return found
            self.events.append(found)

    def _read(self, deadline: float) -> bool:
        """Reads one message, which must be an event; returns False at the deadline."""
        found = self._next(deadline)
        if found is not None and "event" in found:
            self.events.append(found)
        return found is not None

    def _next(self, deadline: float) -> dict[str, Any] | None:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise QmpError(f"QEMU's monitor sends a line of more than {MAX_LINE} bytes")
            left = deadline - time.monotonic()
            try:
                self._socket.settimeout(max(left, 0.0))
                data = self._socket.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError as error:
                raise QmpError(f"QEMU's monitor is gone: {error.strerror or error}") from error
            if not data:
                raise QmpError("QEMU has ended: its monitor is closed")
            self._buffer += data
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        try:
            found = json.loads(line)
        except ValueError as error:
            raise QmpError(f"QEMU's monitor sends what is no JSON: {printable(line[:80].decode(errors='replace'))}") from error
        if not isinstance(found, dict):
            raise QmpError("QEMU's monitor sends what is no JSON object")
        return found
