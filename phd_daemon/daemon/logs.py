"""The daemon's own log: what it says of each event, and one chain of structlog processors behind the standard library's handlers.

Events come to `log_event`. What is of no interest to anybody else is logged where it happens, with `logging.getLogger(__name__)`
and `extra=`; the extras become fields. To the journal and to a file a line is JSON, on a terminal it is for people to read.
The log of a job is written by `spool.job_log`.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import assert_never

import structlog
from structlog.typing import Processor

from phd_daemon.spool import events
from restore_core.errors import in_one_line
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_FILE_BYTES, _FILES_KEPT = 4 << 20, 3


def log_event(event: events.Event) -> None:
    """Writes the line of one event."""
    match event:
        case events.PassEnded():
            level = logging.WARNING if event.exit_code else logging.INFO
            _log.log(level, "replication pass", extra={"exit_code": event.exit_code, "said": event.said})
        case events.DaemonStarted():
            _log.info("ready", extra={"spool": printable(str(event.spool)), "pid": event.pid})
        case events.DaemonStopped():
            _log.info("stopped", extra={"workers left": [printable(name) for name in event.workers_left]})
        case events.BugFound():
            where = {"step": event.step} if event.step else {}
            _log.error(event.message, exc_info=event.error, extra={**where, "job": printable(event.name)})
        case events.JobRejected():
            _log.warning("rejected", extra={"job": printable(event.name), "why": event.error.message})
        case events.JobNotStarted():
            _log.warning("put back", extra={"job": printable(event.name), "why": event.why})
        case events.OfJob():
            what, facts = _of_job(event)
            _log.info(what, extra={"job": printable(event.job.stem), **facts})
        case events.PassStarted() | events.TargetLost() | events.TargetPartial() | events.TargetBack():
            pass  # the line of the pass tells
        case events.DatastoreLost() | events.DatastoreBack():
            pass  # each job that waits for it tells, in its own log
        case _:
            assert_never(event)


def _of_job(event: events.JobEvent) -> tuple[str, dict[str, object]]:
    match event:
        case events.JobAccepted():
            return "accepted", {"submitter": printable(event.job.submitter)}
        case events.JobStarted():
            return "started", {"attempt": event.job.attempt, "pid": event.pid}
        case events.JobAdopted():
            return "adopted", {"attempt": event.job.attempt, "pid": event.pid}
        case events.JobWaitsAgain():
            return "waits again", {"why": event.why}
        case events.JobEnded():
            return event.job.state.meaning, {"why": in_one_line(event.reason)}
        case events.JobRenamed():
            return "steps aside", {"why": "a newer one has its name"}
        case events.JobWithdrawn():
            return "withdrawn", {"why": "its control file was removed"}
        case events.JobForgotten():
            return "forgotten", {"why": "its control file was removed"}
        case _:
            assert_never(event)


def log_to_stderr() -> None:
    """JSON lines, or readable ones on a terminal."""
    renderer: Processor = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    _install(logging.StreamHandler(sys.stderr), renderer)


def log_to_file(path: Path) -> None:
    """JSON lines to a file that is turned over at 4 MiB. Raises `OSError`."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8")
    _install(handler, structlog.processors.JSONRenderer())


def reopen() -> None:
    """Opens the log file again by its name, after logrotate has renamed it, and says so in the new one. stderr stays as it is.

    If that fails, the daemon goes on with the file that it has.
    """
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.handlers.RotatingFileHandler):
            continue
        handler.acquire()
        try:
            before = handler.stream
            handler.stream = handler._open()  # noqa: SLF001  what WatchedFileHandler of the standard library does
            if before is not None:
                before.close()
        except OSError as error:
            _log.error("the log file cannot be opened again: the old one is used", extra={"why": str(error)})
        else:
            _log.info("log file opened again", extra={"file": printable(handler.baseFilename)})
        finally:
            handler.release()


def _install(handler: logging.Handler, renderer: Processor) -> None:
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
    ]
    shape = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
    handler.setFormatter(shape)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
