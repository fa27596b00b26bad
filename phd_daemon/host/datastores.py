"""The datastores of this host: which are there, which jobs must wait for theirs, and the record of each when its first job starts.

A job whose datastore is not mounted, or is another disk, is not started at all. It uses up no try, and starts in the first round
that finds the datastore, whether that is in a minute or in a week.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.spool.layout import Spool
from restore_core import mounts
from restore_core.capabilities import Capabilities, of_folder
from restore_core.disk.datastore import DatastoreFacts, Standing, compare, datastore_of, facts_of_datastore
from restore_core.disk.known_datastores import DatastoreRecord, learn, read_datastores, refuse_unless_known
from restore_core.errors import PhdError, WrongDatastore, from_os_error, in_one_line
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

_log = logging.getLogger(__name__)
_RENEWED = (Standing.MARKER, Standing.FILE_SYSTEM)


def record_of(config: Config) -> DatastoreRecord:
    """Returns the record of this installation, with the roots whose children are datastores."""
    return DatastoreRecord(file=Spool(folder=config.queue.spool).datastores, roots=config.datastores.roots)


def readable_record(config: Config) -> DatastoreRecord | None:
    """Returns the same for a person's own restore; None for a user who may not read it: then only mount points are checked."""
    record = record_of(config)
    return record if os.access(record.file, os.R_OK) else None


def why_away(path: Path, record: DatastoreRecord | None) -> str:
    """Returns why a restore to `path` must wait for its datastore, in words for people; empty when it need not.

    Whatever else is wrong with the path is reported by the restore.
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
        """Returns why a restore to `path` must wait, empty when it need not."""
        datastore = datastore_of(path, self._record.roots)
        if datastore is None:
            return ""
        if datastore not in self.seen:
            self.seen[datastore] = why_away(datastore / "any", self._record)
        return self.seen[datastore] or why_away(path, self._record)


def learn_from(path: Path, record: DatastoreRecord) -> None:
    """Records the datastore of a job that starts. Raises a typed error; then the job waits.

    A datastore that is not there and never was, or cannot be opened, is left to the worker, which reports it.
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
        facts_of_datastore(datastore)
    except OSError:
        return False
    return True


class DatastoreState(enum.Enum):
    """How one datastore is found to be. The value is for people."""

    KNOWN = "mounted and known"
    NEW = "new"
    UNMOUNTED = "not mounted"
    OTHER = "another disk than recorded"
    GONE = "recorded, and not there"
    UNREADABLE = "cannot be looked at"

    @property
    def wrong(self) -> bool:
        """Whether nothing is restored there in this state."""
        return self not in (DatastoreState.KNOWN, DatastoreState.NEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreView:
    """One datastore. `file_system` and the bytes that are `free` are those of what lies there now; empty or None if unknown.

    `can` is what its file system is able to do. `known_by` is empty for one that is not recorded or not known.
    `problem` and `remedy` are empty where nothing is wrong.
    """

    path: Path
    state: DatastoreState
    known_by: str
    file_system: str
    free: int | None
    problem: str
    remedy: str
    can: Capabilities


def views(record: DatastoreRecord) -> list[DatastoreView]:
    """Returns every folder below the roots and every recorded one. Raises `WrongDatastore`, `OSError` for the record."""
    known = read_datastores(record.file)
    recorded = (Path(path) for path in known)
    found = {*_below(record.roots), *(path for path in recorded if path.parent in record.roots)}
    return [_view(path, known, record) for path in sorted(found)]


def _below(roots: tuple[Path, ...]) -> Iterator[Path]:
    for root in roots:
        with contextlib.suppress(OSError):
            yield from (folder for folder in root.iterdir() if folder.is_dir())


def _view(path: Path, known: Mapping[str, DatastoreFacts], record: DatastoreRecord) -> DatastoreView:
    problem, remedy, now, free = "", "", None, None
    try:
        refuse_unless_known(path / "any", record)
    except PhdError as error:
        problem, remedy = error.message, error.remedy
    with contextlib.suppress(OSError):
        now, facts = facts_of_datastore(path), os.statvfs(path)
        free = facts.f_bavail * facts.f_frsize
    standing = compare(known.get(str(path)), now) if now else None
    state = _state(path, now=now, standing=standing, refused=bool(problem))
    by = standing.value if standing and state is DatastoreState.KNOWN else ""
    system = printable(now.file_system.describe()) if now else ""
    can = of_folder(str(path)) if now else Capabilities()
    return DatastoreView(
        path=path, state=state, known_by=by, file_system=system, free=free, problem=problem, remedy=remedy, can=can
    )


def _state(path: Path, *, now: DatastoreFacts | None, standing: Standing | None, refused: bool) -> DatastoreState:
    if mounts.unmounted_mount_point(path) is not None:
        return DatastoreState.UNMOUNTED
    if now is None:
        return DatastoreState.UNREADABLE if os.path.lexists(path) and path.is_dir() else DatastoreState.GONE
    if standing is Standing.OTHER:
        return DatastoreState.OTHER
    if refused:
        return DatastoreState.UNREADABLE
    return DatastoreState.NEW if standing is Standing.NEW else DatastoreState.KNOWN
