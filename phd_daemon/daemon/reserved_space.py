"""Room on a datastore that running jobs have been promised and have not taken yet, so that a new one does not count on it.

A thick disk takes its room at its start, a thin one as it is written: what is left of its plan is set aside. A job that has no
plan yet is not counted; if two of them meet, the second finds no space when it allocates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.spool.layout import Spool, State, parse_name
from phd_daemon.spool.status_file import JobStatus, read_status
from restore_core.disk.destination import PART_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, destination_key, names_for
from restore_core.errors import PhdError


def set_aside(spool: Spool, job: str, restore_to: Path, roots: tuple[Path, ...]) -> int:
    """Bytes that the other running jobs will still take on the file system of `restore_to`. Raises nothing: 0 where unknown."""
    here = _device(restore_to, roots)
    if here is None:
        return 0
    return sum(_left(status) for status in _running(spool, job) if _device(Path(status.restore_to), roots) == here)


def _running(spool: Spool, job: str) -> Iterator[JobStatus]:
    try:
        names = os.listdir(spool.folder)
    except OSError:
        return
    for name in names:
        found = parse_name(name)
        if found is not None and found[1] is State.RUNNING and found[0] != job:
            status = read_status(spool.status(found[0]))
            if status is not None and status.outcome is None:
                yield status


def _device(path: Path, roots: tuple[Path, ...]) -> int | None:
    key = destination_key(path, roots)
    return key[0] if key is not None else None


def _left(status: JobStatus) -> int:
    plan = status.plan
    if plan is None:
        return 0
    return max(0, plan.get("full_bytes", 0) + plan.get("delta_bytes", 0) - _taken(Path(status.restore_to)))


def _taken(restore_to: Path) -> int:
    """Bytes allocated to the part file of a job so far, or to the redo file, staged or sealed, of a refresh in place."""
    try:
        disk_name, _descriptor = names_for(restore_to, confined=True)
    except PhdError:
        return 0
    return sum(_allocated(restore_to.parent / f"{disk_name}{suffix}") for suffix in (PART_SUFFIX, STAGED_SUFFIX, REDO_SUFFIX))


def _allocated(path: Path) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0
