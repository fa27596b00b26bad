"""The datastores: is each mounted, and the same disk as before; and the folders that the settings name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.host.datastores import DatastoreState, DatastoreView, views
from restore_core.disk.datastore import datastore_of
from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.errors import PhdError
from restore_core.naming import printable
from restore_core.replication.selection import JobPhase, QueuedJob

_NAMED_AT_MOST = 10
_CHECKS = {
    DatastoreState.UNMOUNTED: "datastore-unmounted",
    DatastoreState.OTHER: "datastore-changed",
    DatastoreState.GONE: "datastore-gone",
    DatastoreState.UNREADABLE: "datastore-unreadable",
}


def examine(record: DatastoreRecord, jobs: Collection[QueuedJob]) -> Report:
    """Examines every datastore that jobs wait for, or could wait for."""
    try:
        found = views(record)
    except OSError as error:
        return Report(unseen=(f"whether the datastores are the disks they were: {error.strerror}; ask as root",))
    except PhdError as error:
        why = "No restore to a datastore is started."
        bad = Finding(check="datastore-record", what=error.message, where="datastores", why=why, mend=error.remedy)
        return Report(findings=(bad,))
    return Report(findings=tuple(_findings(found, record, jobs)))


def _findings(found: Collection[DatastoreView], record: DatastoreRecord, jobs: Collection[QueuedJob]) -> Iterator[Finding]:
    for one in found:
        if one.state.wrong:
            waiting = [
                job for job in jobs if job.phase is JobPhase.ACTIVE and datastore_of(job.destination, record.roots) == one.path
            ]
            yield Finding(
                check=_CHECKS[one.state],
                what=one.problem or one.state.value,
                where=printable(str(one.path)),
                why=f"Nothing is restored there: it would fill another file system, or somebody's disk. {_who_waits(waiting)}",
                mend=one.remedy or "Mount it.",
            )


def _who_waits(jobs: Collection[QueuedJob]) -> str:
    if not jobs:
        return "No job waits for it now."
    names = sorted(printable(job.name) for job in jobs)
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"Waiting for it: {', '.join(names[:_NAMED_AT_MOST])}{more}."


def examine_folders(config: Config) -> Report:
    """Examines the roots, the folder that loaded rules restore to, and state_dir.

    A default_datastore that phd.toml does not name may be used by nobody, and is not looked at.
    """
    found = [
        Finding(
            check="datastore-missing",
            what="it is a root of datastores, and there is no such folder",
            where=f"{printable(str(root))} (datastores.roots)",
            why="Nothing can be restored to a datastore below it: every such job fails.",
            mend="Mount it, or name the right folder in phd.toml.",
        )
        for root in config.datastores.roots
        if not root.is_dir()
    ]
    default = config.replication.default_datastore
    named = config.replication.enabled and "default_datastore" in config.replication.model_fields_set
    if named and not default.is_dir():
        missing = Finding(
            check="datastore-missing",
            what="the rules of 'phd rules load' restore to it, and there is no such folder",
            where=f"{printable(str(default))} (replication.default_datastore)",
            why="The disks of those rules cannot be restored.",
            mend="Mount it, or name another: phd options replication.default_datastore /PATH",
        )
        found.append(missing)
    return Report(findings=tuple(found)) + _state_dir(config.state_dir)


def _state_dir(folder: Path) -> Report:
    """Whether state_dir can be written. For a user who does not own the folder this says nothing about the daemon."""
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Report()
    if there.is_dir() and os.geteuid() not in (0, there.stat().st_uid):
        return Report(unseen=(f"whether the daemon can write {printable(str(folder))} (state_dir); ask as root",))
    bad = Finding(
        check="state-dir-unwritable",
        what="it cannot be written" if there.is_dir() else f"{printable(str(there))} is no folder",
        where=f"{printable(str(folder))} (state_dir)",
        why="The catalog of the targets, the record of passes and the daemon's pid file are kept there.",
        mend="Check its mode, its mount (read-only?) and the path itself, or name another state_dir in phd.toml.",
    )
    return Report(findings=(bad,))
