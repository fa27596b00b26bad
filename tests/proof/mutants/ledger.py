"""Bugs for R23: a ledger that believes what it reads, or goes on in the middle of a torn line."""

from __future__ import annotations

import os
from pathlib import Path

from restore_core import durable
from restore_core.replication import ledger


def no_checksum() -> None:
    class Anything(str):
        __slots__ = ()

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    check = ledger._check
    setattr(ledger, "_check", lambda body: Anything(check(body)))  # noqa: B010  mypy forbids the plain form


def torn_lines_are_not_closed() -> None:
    def append_line(path: str | Path, line: bytes, *, mode: int = 0o644) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
        os.write(fd, line + b"\n")
        os.close(fd)

    setattr(durable, "append_line", append_line)  # noqa: B010  mypy forbids the plain form
