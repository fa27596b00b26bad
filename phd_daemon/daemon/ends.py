"""What the daemon does when a job ends: enters a done job of a rule into the ledger, and deletes what was left unfinished."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from phd_daemon.spool.record import JobRecord
from restore_core import durable
from restore_core.disk.destination import STAGED_SUFFIX, Destination, open_destination
from restore_core.disk.hold import HOLD_SUFFIX
from restore_core.disk.spelling import as_there_below
from restore_core.errors import PhdError
from restore_core.replication import ledger
from restore_core.replication.ledger import LedgerLine, from_rule
from restore_core.restore.part import held_destination, remove_small_parts


def enter(record: JobRecord, finished: float, path: Path) -> None:
    """Appends a done job of a rule to the ledger at `path`; `finished` is in seconds since the epoch. Raises `OSError`.

    The order makes it exactly one line: outcome durable, ledger line durable, control file renamed to .done. After a crash in
    between this is called again with the same outcome, and finds the line. While the ledger cannot be written the job stays
    .running, so that no pass queues it again. A line that somebody deletes later is never written a second time.
    """
    if record.control is None or not from_rule(record.stem) or record.uid not in (0, os.geteuid()):
        return  # any submitter may use such a name, but only the passes of the daemon and of root speak for the rules
    time = dt.datetime.fromtimestamp(int(finished), dt.UTC)
    line = LedgerLine(time=time, archive=record.control.delta, destination=record.control.restore_to, job=record.stem)
    ledger.append_restore(path, line)


def drop_part(record: JobRecord, roots: tuple[Path, ...]) -> bool:
    """Deletes what attempts of a job that has ended left unfinished at its destination; returns whether a file was deleted.

    Folders that were made for the job and hold nothing of anyone go, too. A worker that sees the end does that itself. This is for
    jobs that were cancelled while they waited, and for those whose workers died or could not delete it. The part file of a disk
    that is in use stays.
    """
    if record.control is None or record.attempt == 0:
        return False
    path = as_there_below(record.control.restore_to, roots)
    try:
        with open_destination(path, roots=roots, make_folders=False) as destination:
            destination.lets_go = True
            names = {destination.part_name, *destination.small_parts, destination.disk_name + HOLD_SUFFIX, *_pieces(destination)}
            # Without any not even a lock file is made: this may be an empty mount point.
            return bool(names & set(os.listdir(destination.folder_fd))) and _dropped(path, roots)
    except (OSError, PhdError):
        return False  # no folder, no datastore, or in use: nothing can be deleted


def _dropped(path: Path, roots: tuple[Path, ...]) -> bool:
    with held_destination(path, roots=roots, make_folders=False, may=_also_in_session) as (destination, hold):
        if hold.record() is not None:
            return False  # a replacement was interrupted: the next restore has to look at it
        name, folder, pieces = destination.part_name, destination.folder_fd, _pieces(destination)
        was_there = any(destination.has(each) for each in (name, *pieces))
        for piece in pieces:
            durable.remove(piece, dir_fd=folder, durable=False)
        fd = durable.take_part(name, dir_fd=folder, keep=True)  # in use also if somebody removed the lock file
        try:
            remove_small_parts(destination)
            return durable.remove(name, dir_fd=folder) and was_there
        finally:
            os.close(fd)


def _also_in_session(_destination: Destination) -> None:
    """Refuses nothing: what is deleted is what the job itself began, never the disk of an instant session or its overlay."""


def _pieces(destination: Destination) -> list[str]:
    """Names of data staged for a change in place, and of files that were about to get their final name."""
    return [destination.disk_name + STAGED_SUFFIX, *destination.private_names()]
