"""Reads a served disk over its socket, with the errors of a drill."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from restore_core.errors import BadData, TryAgainLater
from restore_core.naming import printable
from restore_core.serve.nbd.export_reader import FaultKind, NbdFault, NbdReader

_SECONDS = 120.0


class DiskReader:
    """The disk of the export without a name at a Unix socket. `size` are its bytes. One thread uses it."""

    def __init__(self, path: Path) -> None:
        """Connects. Raises `TryAgainLater`."""
        self._where = printable(str(path))
        with self._errors():
            self._server = NbdReader(path, seconds=_SECONDS)
        self.size = self._server.size

    def read(self, offset: int, length: int) -> bytes:
        """Returns these bytes, which lie within the disk. Raises `BadData` if the server cannot read them, `TryAgainLater`."""
        with self._errors(f"bytes {offset} to {offset + length} of the disk"):
            return self._server.read(offset, length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @contextlib.contextmanager
    def _errors(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except NbdFault as fault:
            if fault.kind is FaultKind.BAD_BLOCK:
                raise BadData(f"{what} cannot be read (NBD error {fault.number})") from fault
            raise self._gone(str(fault)) from fault
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error

    def _gone(self, why: str) -> TryAgainLater:
        return TryAgainLater(f"{self._where}: the server of this disk: {why}")
