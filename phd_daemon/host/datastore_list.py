"""All datastores of an installation and how each stands, for `phd datastores` and the doctor."""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from restore_core import mounts
from restore_core.disk.datastore import Seen, Standing, compare, look
from restore_core.disk.known_datastores import DatastoreRecord, read_record, refuse_unless_known
from restore_core.errors import PhdError
from restore_core.naming import printable


class DatastoreState(enum.Enum):
    """The value is what people read."""

    KNOWN = "mounted and known"
    NEW = "new"
    UNMOUNTED = "not mounted"
    OTHER = "another disk than recorded"
    GONE = "recorded, and not there"
    UNREADABLE = "cannot be looked at"

    @property
    def wrong(self) -> bool:
        """Nothing is restored there as it is."""
        return self not in (DatastoreState.KNOWN, DatastoreState.NEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreView:
    """One datastore. `file_system` and the bytes that are `free` are those of what lies there now; empty or None if unknown.

    `known_by` is empty for one that is not recorded or not known. `problem` and `remedy` are empty where nothing is wrong.
    """

    path: Path
    state: DatastoreState
    known_by: str
    file_system: str
    free: int | None
    problem: str
    remedy: str


def views(record: DatastoreRecord) -> list[DatastoreView]:
    """Every folder below the roots, and every recorded one that is not there. Raises `WrongDatastore`, `OSError` for the record."""
    known = read_record(record.file)
    recorded = (Path(path) for path in known)
    found = {*_below(record.roots), *(path for path in recorded if path.parent in record.roots)}
    return [_view(path, known, record) for path in sorted(found)]


def _below(roots: tuple[Path, ...]) -> Iterator[Path]:
    for root in roots:
        with contextlib.suppress(OSError):
            yield from (folder for folder in root.iterdir() if folder.is_dir())


def _view(path: Path, known: Mapping[str, Seen], record: DatastoreRecord) -> DatastoreView:
    problem, remedy, now, free = "", "", None, None
    try:
        refuse_unless_known(path / "any", record)
    except PhdError as error:
        problem, remedy = error.message, error.remedy
    with contextlib.suppress(OSError):
        now, facts = look(path), os.statvfs(path)
        free = facts.f_bavail * facts.f_frsize
    standing = compare(known.get(str(path)), now) if now else None
    state = _state(path, now=now, standing=standing, refused=bool(problem))
    by = standing.value if standing and state is DatastoreState.KNOWN else ""
    system = printable(now.file_system.describe()) if now else ""
    return DatastoreView(path=path, state=state, known_by=by, file_system=system, free=free, problem=problem, remedy=remedy)


def _state(path: Path, *, now: Seen | None, standing: Standing | None, refused: bool) -> DatastoreState:
    if mounts.unmounted_mount_point(path) is not None:
        return DatastoreState.UNMOUNTED
    if now is None:
        return DatastoreState.UNREADABLE if os.path.lexists(path) and path.is_dir() else DatastoreState.GONE
    if standing is Standing.OTHER:
        return DatastoreState.OTHER
    if refused:
        return DatastoreState.UNREADABLE
    return DatastoreState.NEW if standing is Standing.NEW else DatastoreState.KNOWN
