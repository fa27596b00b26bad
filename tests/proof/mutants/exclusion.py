"""Bugs for R19: a lock that is not taken, a holder that is not asked for, two paths that are two disks."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from phd_daemon.daemon import starts
from phd_daemon.spool import locks
from restore_core import durable
from restore_core.disk import hold
from restore_core.disk.alone import Alone
from restore_core.restore import existing, refusals


class _NoLocks:
    """`fcntl` for one module: every lock is granted."""

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: None) if name == "flock" else getattr(fcntl, name)


def every_path_is_another_disk() -> None:
    count = iter(range(1 << 30))

    def key(path: Path, roots: tuple[Path, ...]) -> int:
        del path, roots
        return next(count)

    setattr(starts, "disk_key", key)  # noqa: B010  mypy forbids the plain form


def nobody_is_asked() -> None:
    setattr(refusals, "refuse_if_in_use", lambda *_, **__: None)  # noqa: B010  mypy forbids the plain form
    setattr(existing, "lock_image", lambda *_: None)  # noqa: B010  the same
    setattr(existing, "refuse_lock_files", lambda *_: None)  # noqa: B010  the same
    setattr(existing, "alone", lambda _fd: Alone.YES)  # noqa: B010  the same


def the_part_is_anybodys() -> None:
    setattr(durable, "fcntl", _NoLocks())  # noqa: B010  mypy forbids the plain form
    setattr(hold, "fcntl", _NoLocks())  # noqa: B010  the same


def as_many_daemons_as_you_like() -> None:
    def opened(lock: Any) -> None:
        setattr(lock, "_fd", lock._open())  # noqa: B010  mypy forbids the plain form

    setattr(locks.PidLock, "acquire", opened)  # noqa: B010  the same
