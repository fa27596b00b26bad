"""Reports what is wrong in the spool, once, in the daemon's log and in the job's, and puts obstacles aside."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection

from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.own_files import put_aside
from phd_daemon.spool.record import JobRecord
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_RANDOM = re.compile(r"[0-9a-f]{8,}")
"""A random part of a name in a message: the same message has another one each time."""
MOST_ASIDE = 16
"""How often obstacles of one name are put aside: a user who creates folders there again and again must not fill the spool."""


class Troubles:
    """Remembers what was reported and put aside. All of it can be lost: then it is reported again."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._reported: set[tuple[str, str]] = set()
        self._put_aside: Counter[str] = Counter()

    def report_job(self, stem: str, what: str, job: JobRecord | None) -> None:
        """Reports it in the job's log, too; `job` is None for one that could not be accepted yet."""
        log = self._spool.log(stem)
        if self.report(stem, what) and (job is not None or os.path.lexists(log)):
            JobLog(log, reader=job.uid if job else None).line(f"waits: {what}")

    def report(self, stem: str, what: str) -> bool:
        """Reports it, unless that was done before; returns whether it was new."""
        known = (stem, _RANDOM.sub("", what))
        if known in self._reported:
            return False
        self._reported.add(known)
        _log.warning("left alone", extra={"job": printable(stem), "why": what})
        return True

    def put_aside(self, names: Collection[str]) -> None:
        """Puts obstacles aside that have the name of a control file: a file moved to such a folder would end up inside it."""
        for name in names:
            if self._put_aside[name] >= MOST_ASIDE:
                self.report(name, f"what somebody puts there was put aside {MOST_ASIDE} times: left alone from now on")
                continue
            self._put_aside[name] += 1
            try:
                put_aside(self._spool.folder / name)
            except OSError as error:
                self.report(name, str(error))

    def forget(self, here: Collection[str]) -> None:
        """Forgets what was reported of all but these names."""
        self._reported = {reported for reported in self._reported if reported[0] in here}
