"""Bugs for R15: what a file says comes through as it is, and what TOML's reader cannot do comes through as our own bug."""

from __future__ import annotations

import tomllib
from typing import Any

from phd_daemon import toml_text
from phd_daemon.spool import control_file


def a_reason_is_told_raw() -> None:
    setattr(control_file, "printable", lambda text: text)  # noqa: B010  mypy forbids the plain form


def a_deep_file_is_a_bug() -> None:
    """What the reader of TOML raises is not caught."""

    class Never(Exception):
        """Nobody raises it."""

    setattr(toml_text, "tomllib", _Unlike(tomllib, Never))  # noqa: B010  the same


class _Unlike:
    """tomllib, whose error is another one."""

    def __init__(self, real: Any, error: type[Exception]) -> None:
        self.loads, self.TOMLDecodeError = real.loads, error
