"""Bugs for R29: names are believed, numbers are taken for files, and one job's trouble is everybody's."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import Any

from phd_daemon.host import utf8
from restore_core import durable


def what_is_in_the_way_stays() -> None:
    from phd_daemon.spool import job_log, locks, own_files, transitions, troubles

    def refused(path: Path, **_: object) -> str:
        raise OSError(errno.EISDIR, "is a directory", os.fspath(path))

    def bluntly(part: Path, path: Path) -> str:
        durable.move(part, path, replace=True)
        return ""

    for module in (job_log, transitions, own_files):
        setattr(module, "take_over", bluntly)  # noqa: B010  mypy forbids the plain form
    for module in (locks, troubles):
        setattr(module, "put_aside", refused)  # noqa: B010  the same


def logs_are_for_everybody() -> None:
    from phd_daemon.spool import job_log, own_files

    def everybody(fd: int, *_: object, **__: object) -> None:
        os.fchmod(fd, 0o644)

    setattr(own_files, "let_read", everybody)  # noqa: B010  the same
    setattr(job_log, "let_read", everybody)  # noqa: B010  the same


def an_inode_is_a_file() -> None:
    from phd_daemon.spool import scan

    setattr(scan, "_by_content", lambda *_: 0)  # noqa: B010  the same


def namesakes_wait_for_each_other() -> None:
    from phd_daemon.spool import keeper, reconcile

    real = reconcile.reconcile

    def waits(facts: Any) -> Any:
        action = real(facts)
        return reconcile.Nothing(why="waits") if isinstance(action, reconcile.RenameOlder) else action

    setattr(keeper, "reconcile", waits)  # noqa: B010  the same


def a_bug_ends_the_loop() -> None:
    from phd_daemon.daemon import loop

    setattr(loop.Guard, "__call__", lambda *_: contextlib.nullcontext())  # noqa: B010  the same


def the_locale_decides() -> None:
    setattr(utf8, "insist_on_utf8", lambda: None)  # noqa: B010  the same
    setattr(utf8, "PYTHON", (sys.executable,))  # noqa: B010  the same
