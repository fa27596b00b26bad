"""The datastores: is each mounted, and the disk it was; and which jobs wait for one that is not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import assert_never

from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.host.datastore_list import DatastoreState, DatastoreView, views
from restore_core.disk.datastore import datastore_of
from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.errors import PhdError
from restore_core.naming import printable
from restore_core.replication.selection import Phase, QueuedJob

_NAMED_AT_MOST = 10


def examine(record: DatastoreRecord, jobs: Collection[QueuedJob]) -> Report:
    """Every datastore that jobs wait for, or would."""
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
        check = _check(one.state)
        if check is not None:
            waiting = [job for job in jobs if job.phase is Phase.ACTIVE and datastore_of(job.destination, record.roots) == one.path]
            yield Finding(
                check=check,
                what=one.problem or one.state.value,
                where=printable(str(one.path)),
                why=f"Nothing is restored there: it would fill another file system, or somebody's disk. {_who_waits(waiting)}",
                mend=one.remedy or "Mount it.",
            )


def _check(state: DatastoreState) -> str | None:
    match state:
        case DatastoreState.KNOWN | DatastoreState.NEW:
            return None
        case DatastoreState.UNMOUNTED:
            return "datastore-unmounted"
        case DatastoreState.OTHER:
            return "datastore-changed"
        case DatastoreState.GONE:
            return "datastore-gone"
        case DatastoreState.UNREADABLE:
            return "datastore-unreadable"
        case _:
            assert_never(state)


def _who_waits(jobs: Collection[QueuedJob]) -> str:
    if not jobs:
        return "No job waits for it now."
    names = sorted(printable(job.name) for job in jobs)
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"Waiting for it: {', '.join(names[:_NAMED_AT_MOST])}{more}."
