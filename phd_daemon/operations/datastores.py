"""The datastores: which disk each is, whether it is mounted, and what a person says of one that has changed."""

from __future__ import annotations

from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.host.datastores import DatastoreView, record_of, views
from phd_daemon.operations.installation import spool_of
from phd_daemon.spool.safety import check_spool
from restore_core.disk import known_datastores
from restore_core.disk.datastore import DatastoreFacts
from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.errors import UsageError
from restore_core.naming import comparable, printable


def datastores(settings: Config) -> list[DatastoreView]:
    """Returns all datastores, and how each stands. Raises `OSError` for a record that cannot be read."""
    return views(record_of(settings))


def accept(settings: Config, name: str) -> tuple[Path, DatastoreFacts]:
    """Records the disk that is mounted at a datastore now. Returns the path of the datastore, and what was recorded."""
    path, record = _to_change(settings, name)
    return path, known_datastores.accept(path, record)


def forget(settings: Config, name: str) -> tuple[Path, bool]:
    """Deletes a datastore from the record. Returns its path, and whether it was recorded."""
    path, record = _to_change(settings, name)
    return path, known_datastores.forget(path, record)


def _to_change(settings: Config, name: str) -> tuple[Path, DatastoreRecord]:
    """Returns the one datastore of this name or path, and the record. Raises `UsageError` if none has it, or several."""
    check_spool(spool_of(settings))  # makes the folder of the record if no daemon has run yet
    record = record_of(settings)
    every = [one.path for one in views(record)]
    wanted = comparable(name)
    found = [path for path in every if wanted in _names(path)]
    if len(found) == 1:
        return found[0], record
    if found:
        choice = " or ".join(printable(str(path)) for path in found)
        raise UsageError(f"'{printable(name)}' is the name of {len(found)} datastores", remedy=f"Write its path: {choice}.")
    known = ", ".join(printable(path.name) for path in every) or "none"
    raise UsageError(f"no datastore is named '{printable(name)}'; there are: {known}", remedy="'phd datastores' shows them all.")


def _names(path: Path) -> set[str]:
    """Returns what a person may call a datastore: its name or its path, as they are or as they are printed."""
    return {comparable(text) for plain in (path.name, str(path)) for text in (plain, printable(plain))}
