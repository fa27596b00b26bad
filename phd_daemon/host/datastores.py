"""The daemon's side of the datastores: which jobs wait for theirs, and the record of a datastore when its first job starts.

A job whose datastore is not mounted, or is another disk, is not started at all. It waits where it is, uses up no try, and starts
in the first round in which the datastore is there, whether that is in a minute or in a week.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.spool.layout import Spool
from phd_daemon.spool.status_file import in_one_line
from restore_core.disk.datastore import Standing, datastore_of, look
from restore_core.disk.known_datastores import DatastoreRecord, learn, refuse_unless_known
from restore_core.errors import PhdError, WrongDatastore, from_os_error
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

_log = logging.getLogger(__name__)
_RENEWED = (Standing.MARKER, Standing.FILE_SYSTEM)


def record_of(config: Config) -> DatastoreRecord:
    """The record of this installation, and the roots whose children are datastores."""
    return DatastoreRecord(file=Spool(folder=config.queue.spool).datastores, roots=config.datastores.roots)


def readable_record(config: Config) -> DatastoreRecord | None:
    """The same for a person's own restore; None for users who may not read it: then only mount points are asked about."""
    record = record_of(config)
    return record if os.access(record.file, os.R_OK) else None


def why_away(path: Path, record: DatastoreRecord | None) -> str:
    """Why a restore to `path` must wait for its datastore, as a person should read it; empty when nothing is against it.

    Whatever else is wrong with the path is for the restore to say.
    """
    try:
        refuse_unless_known(path, record)
    except WrongDatastore as error:
        return in_one_line(str(error))
    except (OSError, PhdError):
        return ""
    return ""


class DatastoreLook:
    """`why_away` for one round: of many jobs for one datastore only the first one looks at it. `seen` keeps the answers."""

    def __init__(self, record: DatastoreRecord) -> None:
        self._record = record
        self.seen: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        """Returns why a restore to `path` must wait, empty when nothing is against it."""
        datastore = datastore_of(path, self._record.roots)
        if datastore is None:
            return ""
        if datastore not in self.seen:
            self.seen[datastore] = why_away(datastore / "any", self._record)
        return self.seen[datastore] or why_away(path, self._record)


def learn_from(path: Path, record: DatastoreRecord) -> None:
    """Put the datastore of a job that starts on record. Raises a typed error; then the job waits.

    One that is not there and never was, or cannot be opened, is left to the worker, which says so.
    """
    datastore = datastore_of(path, record.roots)
    if datastore is None or not _can_be_opened(datastore):
        return
    where = printable(str(datastore))
    try:
        standing = learn(datastore, record)
    except OSError as error:
        raise from_os_error(error, doing="recording the datastore", where=where) from error
    if standing is Standing.NEW:
        _log.info("a new datastore", extra={"datastore": where})
    elif standing in _RENEWED:
        _log.warning("a datastore is recorded anew", extra={"datastore": where, "known by": standing.value})


def _can_be_opened(datastore: Path) -> bool:
    try:
        look(datastore)
    except OSError:
        return False
    return True
