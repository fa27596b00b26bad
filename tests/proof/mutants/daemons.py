"""Bugs for R2 and R22: a daemon that does not know who lives, and one that never lets go of anything."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from phd_daemon.daemon import children
from phd_daemon.spool import keeper


def _own_children_are_forgotten() -> None:
    """What a daemon knows of its own workers stands beside the lock, and hides that the lock is not believed."""
    setattr(children.Workers, "unreaped", lambda *_: False)  # noqa: B010  mypy forbids the plain form


def the_lock_is_not_handed_on() -> None:
    _own_children_are_forgotten()

    class Alone(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, pass_fds: Any = (), **more: Any) -> None:
            del pass_fds
            super().__init__(*arguments, **more)

    children.subprocess.Popen = Alone  # type: ignore[attr-defined]  # planted


def the_lock_is_not_asked() -> None:
    _own_children_are_forgotten()
    setattr(keeper, "lock_is_held", lambda _path: False)  # noqa: B010  the same


def ends_are_not_closed() -> None:
    setattr(children.Worker, "close", lambda _self: os.dup(0))  # noqa: B010  the same


def nobody_hangs() -> None:
    setattr(children.HungWatch, "look", lambda *_, **__: None)  # noqa: B010  the same
