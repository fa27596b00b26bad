"""Bugs for R5 and R6: what must be durable before the next step is not."""

from __future__ import annotations

import time
from pathlib import Path

from phd_daemon.daemon.ends import enter
from phd_daemon.spool import intake, status_file, transitions
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.status_file import JobStatus
from phd_daemon.worker import report
from restore_core import durable


def files_are_not_synced() -> None:
    durable.sync_file = lambda _fd: None  # type: ignore[assignment]  # planted


def folders_are_not_synced() -> None:
    setattr(durable, "sync_folder", lambda *_, **__: None)  # noqa: B010  mypy forbids the plain form


def ledger_before_the_disk() -> None:
    claim = transitions.claim

    def entered_first(spool: Spool, record: JobRecord) -> transitions.Claim | None:
        enter(record, time.time(), spool.folder.parent / "restored.log")
        return claim(spool, record)

    setattr(transitions, "claim", entered_first)  # noqa: B010  mypy forbids the plain form


def done_before_the_outcome() -> None:
    write_status = status_file.write_status

    def lazily(path: Path, status: JobStatus, *, durable_now: bool) -> None:
        del durable_now
        write_status(path, status, durable_now=False)

    for module in (transitions, intake, report):
        setattr(module, "write_status", lazily)  # noqa: B010  mypy forbids the plain form
