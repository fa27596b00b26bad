"""Bugs for R13 and R14: no clock is looked at, and what comes is taken for what was asked for."""

from __future__ import annotations

from typing import Any

from restore_core.restore import pipeline
from restore_core.targets.remote import connection, target


def a_drip_is_patience() -> None:
    """Nobody looks how slowly the bytes come."""
    setattr(connection.Pace, "moved", lambda *_: None)  # noqa: B010  mypy forbids the plain form


def every_other_block_is_lost() -> None:
    """Some of what is verified is not written."""
    real: Any = pipeline.Pipeline.__dict__["_write"]

    def half(self: Any, data: Any, offset: int) -> None:
        real(self, data, offset) if offset % (2 << 20) else None

    setattr(pipeline.Pipeline, "_write", half)  # noqa: B010  the same


def every_trouble_is_final() -> None:
    """A line that broke is taken for a file that is bad."""
    real: Any = target.__dict__["TargetUnavailable"]
    setattr(real, "try_again", False)  # noqa: B010  the same
