"""Deletes the files of jobs that ended long ago, rotated ones too, and logs without a job. Never those of a job that may still run.

The age is counted from the end of the job, as its status file says; without one, from the newest time of its files. The record is
deleted when the keeper sees that the control file is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from phd_daemon.spool.layout import FINAL, Spool, State, parse_name, side_file
from phd_daemon.spool.status_file import read_status
from restore_core import durable


def finished(spool: Spool) -> list[str]:
    """Returns the stems that have only files of finished jobs: final control files, logs, status files."""
    finals: set[str] = set()
    sides: set[str] = set()
    unfinished: set[str] = set()
    for name in os.listdir(spool.folder):
        parsed = parse_name(name)
        if parsed is not None:
            (finals if parsed[1] in FINAL else unfinished).add(parsed[0])
        elif (stem := side_file(name)) is not None:
            sides.add(stem)
    orphans = (stem for stem in sides - finals - unfinished if not _being_cancelled(spool, stem))
    return sorted((finals - unfinished) | set(orphans))


def purge(spool: Spool, *, older_than: float, now: float, busy: Collection[str]) -> list[str]:
    """Deletes jobs that ended more than `older_than` seconds before `now`; returns their stems.

    `busy` are stems of running jobs, wherever their control file is at this moment. What cannot be deleted (somebody made a folder
    of that name) stays. Also deletes temporary files of killed processes and what was put aside, except folders that are not empty.
    Raises `OSError` if the folder is gone.
    """
    gone = []
    for stem in finished(spool):
        if stem not in busy and now - ended_at(spool, stem) > older_than:
            with contextlib.suppress(OSError):
                remove_job(spool, stem)
                gone.append(stem)
    for folder in (spool.folder, spool.state_folder, spool.receipts):
        with contextlib.suppress(OSError):
            _remove_leftovers(folder, now, older_than)
    return gone


def ended_at(spool: Spool, stem: str) -> float:
    """Returns when the job ended, in seconds since the epoch; 0 if it has no files."""
    status = read_status(spool.status(stem))
    if status is not None and status.finished_at is not None:
        return status.finished_at
    times = []
    for path in _files_of(spool, stem):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        times.append(found.st_ctime if path.suffix[1:] in _STATES else found.st_mtime)
    return max(times, default=0.0)


def remove_job(spool: Spool, stem: str) -> None:
    """Deletes a finished job: its control files first, so a crash never leaves a control file without its log."""
    for path in _files_of(spool, stem):
        durable.remove(path, durable=False)


def size_of(spool: Spool, stem: str) -> int:
    """Returns the bytes of the files that `remove_job` deletes."""
    size = 0
    for path in _files_of(spool, stem):
        with contextlib.suppress(OSError):
            size += os.lstat(path).st_size
    return size


def _files_of(spool: Spool, stem: str) -> tuple[Path, ...]:
    return (*(spool.control(stem, state) for state in FINAL), spool.log(stem), spool.status(stem))


def _remove_leftovers(folder: Path, now: float, older_than: float) -> None:
    """Deletes temporary files and things put aside. No write takes an hour: an older temporary file is of a killed process."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                temporary = _TEMPORARY.match(entry.name) and now - found.st_mtime > _TEMPORARY_SECONDS
                aside = _ASIDE.search(entry.name) and now - found.st_ctime > older_than
                if temporary or aside:
                    (os.rmdir if stat.S_ISDIR(found.st_mode) else os.unlink)(entry.path)


def _being_cancelled(spool: Spool, stem: str) -> bool:
    """Whether its .running file was taken away and its worker has not ended yet."""
    status = read_status(spool.status(stem))
    return status is not None and status.state == State.RUNNING.meaning


_TEMPORARY = re.compile(r"\.phd-[0-9a-f]{16}\.tmp\Z")
_ASIDE = re.compile(r"\.aside-[0-9a-f]{8}\Z")
_TEMPORARY_SECONDS = 3600.0
_STATES = {state.value for state in State}
