"""The daemon's own log: one chain of structlog processors behind the standard library's handlers.

Modules log with `logging.getLogger(__name__)` and `extra=`; the extras become fields. To the journal and to a file a
line is JSON, on a terminal it is for eyes. A job's log is something else: see `spool.job_log`.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

import structlog
from structlog.typing import Processor

_FILE_BYTES, _FILES_KEPT = 4 << 20, 3


def log_to_stderr() -> None:
    """JSON lines, or readable ones on a terminal."""
    renderer: Processor = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    _install(logging.StreamHandler(sys.stderr), renderer)


def log_to_file(path: Path) -> None:
    """JSON lines to a file that is turned over at 4 MiB. Raises `OSError`."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8")
    _install(handler, structlog.processors.JSONRenderer())


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
