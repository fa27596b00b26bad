"""Removes what ended long ago: finished jobs, rotated ones, and logs whose job is gone. Never anything that may still run.

Age counts from the end of the job: the time in its status file; where there is none, the newest time any of its files
has. The record goes when the keeper sees that the control file is gone.
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
    """Stems under which only finished things lie: final control files, logs, status files."""
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
    """Remove what ended more than `older_than` seconds before `now`; the stems that went. Raises `OSError` with the folder gone.

    `busy` are stems that are running, wherever their control file may be at this moment. What cannot be removed (somebody put a
    folder there) stays. Halves of replacements that a killed process left go too, and what was put aside, but no full folder.
    """
    gone = []
    for stem in finished(spool):
        if stem not in busy and now - ended_at(spool, stem) > older_than:
            with contextlib.suppress(OSError):
                remove(spool, stem)
                gone.append(stem)
    for folder in (spool.folder, spool.state_folder, spool.receipts):
        with contextlib.suppress(OSError):
            _remove_rest(folder, now, older_than)
    return gone


def ended_at(spool: Spool, stem: str) -> float:
    """When the job ended, in seconds since the epoch; 0 if nothing of it is there."""
    status = read_status(spool.status(stem))
    if status is not None and status.finished_at is not None:
        return status.finished_at
    times = []
    for path in (*(spool.control(stem, state) for state in FINAL), spool.log(stem), spool.status(stem)):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        times.append(found.st_ctime if path.suffix[1:] in _STATES else found.st_mtime)
    return max(times, default=0.0)


def remove(spool: Spool, stem: str) -> None:
    """Remove the final control files first, so that a crash never leaves a job without its reason but with its name."""
    for path in (*(spool.control(stem, state) for state in FINAL), spool.log(stem), spool.status(stem)):
        durable.remove(path, durable=False)


def _remove_rest(folder: Path, now: float, older_than: float) -> None:
    """No replacement takes an hour: an older half of one belongs to a process that was killed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                torn = _TORN.match(entry.name) and now - found.st_mtime > _TORN_SECONDS
                aside = _ASIDE.search(entry.name) and now - found.st_ctime > older_than
                if torn or aside:
                    (os.rmdir if stat.S_ISDIR(found.st_mode) else os.unlink)(entry.path)


def _being_cancelled(spool: Spool, stem: str) -> bool:
    """Its .running file was taken away, and its worker has not ended yet."""
    status = read_status(spool.status(stem))
    return status is not None and status.state == State.RUNNING.meaning


_TORN = re.compile(r"\.phd-[0-9a-f]{16}\.tmp\Z")
_ASIDE = re.compile(r"\.aside-[0-9a-f]{8}\Z")
_TORN_SECONDS = 3600.0
_STATES = {state.value for state in State}
