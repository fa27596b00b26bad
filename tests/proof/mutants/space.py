"""Bugs for R7, R8, R9: what goes wrong late is not seen, or what was done is forgotten."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from phd_daemon.daemon import ends, service
from phd_daemon.worker import report
from restore_core import durable
from restore_core.restore import part, publish


def a_failed_restore_leaves_its_part() -> None:
    """Neither the worker nor the daemon tidies up."""
    setattr(part, "_remove", lambda *_: None)  # noqa: B010  mypy forbids the plain form
    setattr(ends, "drop_part", lambda *_: False)  # noqa: B010  the same


def an_error_of_fsync_is_retried() -> None:
    """The kernel says it once; the second time it says that all is well."""

    def twice(fd: int) -> None:
        with contextlib.suppress(OSError):
            os.fsync(fd)
            return
        with contextlib.suppress(OSError):
            os.fsync(fd)
            return
        os.fsync(fd)

    setattr(durable, "sync_file", twice)  # noqa: B010  the same


def readback_believes() -> None:
    """The disk is not read again."""
    setattr(publish, "read_back", lambda *_: None)  # noqa: B010  the same


def no_room_for_the_outcome_is_the_end() -> None:
    setattr(report, "_NO_ROOM", frozenset({errno.EXDEV}))  # noqa: B010  the same


def the_ledger_is_not_waited_for() -> None:
    """What cannot be entered is not entered."""
    real: Any = service.__dict__["enter"]

    def once(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            real(*arguments)

    setattr(service, "enter", once)  # noqa: B010  the same
