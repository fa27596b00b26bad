"""Bugs for R15: what a file says comes through as it is, and what TOML's reader cannot do comes through as our own bug."""

from __future__ import annotations

from phd_daemon.config import toml_text
from phd_daemon.spool import control_file


def a_reason_is_told_raw() -> None:
    setattr(control_file, "printable", lambda text: text)  # noqa: B010  mypy forbids the plain form


class _Never(Exception):
    """Nobody raises it."""


def a_deep_file_is_a_bug() -> None:
    """What the reader of TOML cannot go down to is not expected."""
    setattr(toml_text, "RecursionError", _Never)  # noqa: B010  the same
