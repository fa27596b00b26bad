"""Putting a control file into the spool: complete and durable before it gets its name, and never over another one.

It does nothing a person could not do with an editor and `mv`: the daemon judges the file at its door.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from phd_daemon.spool.layout import Spool, State
from phd_daemon.spool.readers import let_read, named_readers
from restore_core import durable


def drop(
    spool: Spool, text: bytes, *, names: Iterable[str], state: State = State.WAITING, not_before: float | None = None
) -> str | None:
    """Put a control file there under the first name that is free; that name, or None if all are taken. Raises `OSError`.

    `not_before` is the time the job waits for, in seconds since the epoch. `State.HELD` parks it for a person to release.
    """
    part = spool.folder / f".phd-{secrets.token_hex(8)}.tmp"  # the purge knows this name, should we be killed
    try:
        _write(part, text, not_before)
        for name in names:
            try:
                rename(part, spool.control(name, state))
                return name
            except FileExistsError:
                continue
        return None
    finally:
        durable.remove(part, durable=False)


def _write(part: Path, text: bytes, not_before: float | None) -> None:
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _let_the_daemon_read(fd, part.parent)
        durable.write_all(fd, text)
        if not_before is not None:
            os.utime(fd, (not_before, not_before))
        durable.sync_file(fd)
    finally:
        os.close(fd)


def _let_the_daemon_read(fd: int, folder: Path) -> None:
    """The daemon may be another user, without any right to read what is not open to it: the owner of the spool is named."""
    owner = os.stat(folder).st_uid
    let_read(fd, folder, uid=owner)
    if owner != os.geteuid() and owner not in named_readers(fd):
        os.fchmod(fd, 0o644)  # a file system without access lists


def rename(source: Path, to: Path) -> None:
    """Rename within the spool, never over an existing name, as durably as this user may. Raises `OSError`."""
    try:
        durable.move(source, to)
    except PermissionError:
        # A drop box (mode 1730) may be written but not read, so its folder cannot be opened to be synced.
        if os.path.lexists(source):
            raise
