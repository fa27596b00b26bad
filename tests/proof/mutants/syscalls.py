"""Bugs for R4: errors that are not taken at their word."""

from __future__ import annotations

import contextlib
import os

from phd_daemon.daemon import ends
from restore_core.restore import part


def a_failed_fsync_is_forgiven() -> None:
    fsync = os.fsync

    def forgiving(fd: int) -> None:
        with contextlib.suppress(OSError):
            fsync(fd)

    setattr(os, "fsync", forgiving)  # noqa: B010  mypy forbids the plain form


def parts_stay() -> None:
    setattr(part, "_remove", lambda *_: None)  # noqa: B010  the same
    setattr(ends, "drop_part", lambda *_: False)  # noqa: B010  the same
