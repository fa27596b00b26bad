"""Files of the daemon's own beside the control files: written whole, for their readers alone, whatever has their name."""

from __future__ import annotations

import functools
import os
import secrets
from pathlib import Path

from phd_daemon.spool.in_the_way import is_own, take_over
from phd_daemon.spool.readers import let_read
from restore_core import durable


def write_own(path: Path, data: bytes, *, durable_now: bool, reader: int | None = None, private: bool = False) -> str:
    """Replace the file; a sentence about what was in its way, empty if nothing was. Raises `OSError`.

    `reader` is the user who may read it besides us and the group of the spool; with `private` nobody may but us.
    """
    made = None if private else functools.partial(let_read, folder=path.parent, uid=reader)
    if not _taken(path):
        try:
            durable.write_whole(path, data, durable=durable_now, made=made)
            return ""
        except IsADirectoryError:
            pass
    part = path.with_name(f".phd-{secrets.token_hex(8)}.tmp")  # the purge knows this name, should we be killed
    try:
        durable.write_whole(part, data, durable=durable_now, made=made)
        return take_over(part, path)
    finally:
        durable.remove(part, durable=False)


def _taken(path: Path) -> bool:
    """Something has the name that is no file of ours."""
    try:
        return not is_own(os.lstat(path))
    except FileNotFoundError:
        return False
