"""Bugs for R18: the door opens what it sees, and the log writes what it is given."""

from __future__ import annotations

import os
import stat as stat_module
from pathlib import Path
from typing import Any

from phd_daemon.spool import intake, job_log


class _Follows:
    """`os` for one module: what a link leads to is what lies there."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, "stat" if name == "lstat" else name)


def links_are_followed() -> None:
    setattr(intake, "os", _Follows())  # noqa: B010  mypy forbids the plain form
    setattr(intake, "_OPEN", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # noqa: B010  the same


def logs_are_opened_as_they_lie() -> None:
    def opened(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)

    setattr(job_log, "open_log", opened)  # noqa: B010  mypy forbids the plain form


def nobody_looks_at_the_size() -> None:
    def refuse(found: os.stat_result) -> None:
        if not stat_module.S_ISREG(found.st_mode):
            raise AssertionError

    setattr(intake, "_refuse_bad_file", refuse)  # noqa: B010  mypy forbids the plain form


def names_are_printed_raw() -> None:
    setattr(job_log, "_escaped", lambda line: line)  # noqa: B010  mypy forbids the plain form
    from phd_daemon.spool import intake, keeper

    for module in (intake, keeper):
        setattr(module, "printable", lambda text: text)  # noqa: B010  mypy forbids the plain form
