"""The one guard of the main loop: what goes wrong with one job, or in one step, is the matter of that job or step alone.

Typed errors are handled where they are expected. What is left is a bug of ours, or a spool in a state nobody thought of: it must
not end the daemon, or the same job would end the next one, too, and each one after it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from restore_core.naming import printable

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def guarded(step: str, job: str = "") -> Iterator[None]:
    """Whatever is raised inside ends here, in the daemon's log. Not what ends a process: signals, `sys.exit`."""
    try:
        yield
    except Exception:  # noqa: BLE001  that is what it is for
        _log.exception("a bug of ours, or something unheard of; all else goes on", extra={"step": step, "job": printable(job)})
