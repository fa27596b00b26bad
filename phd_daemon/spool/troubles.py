"""What is wrong in the spool, said once, in the daemon's log and in the job's; and what is in the way of names, put aside.

Put aside so often and no oftener.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection

from phd_daemon.spool.in_the_way import put_aside
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.record import JobRecord
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_RANDOM = re.compile(r"[0-9a-f]{8,}")
"""Names that we make up are others each time."""
MOST_ASIDE = 16
"""So often what is in the way of one name is put aside: whoever goes on making folders there would fill the spool with them."""


class Troubles:
    """Remembers what was said and done already. All of it can be lost: then it is said again."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._said: set[tuple[str, str]] = set()
        self._put_aside: Counter[str] = Counter()

    def say(self, stem: str, what: str) -> None:
        """Say it, unless it was said."""
        self._say(stem, what)

    def say_of_job(self, stem: str, what: str, job: JobRecord | None) -> None:
        """The same, also in the log of a job, to whoever waits for it; `job` is None for one that could not be accepted yet."""
        log = self._spool.log(stem)
        if self._say(stem, what) and (job is not None or os.path.lexists(log)):
            JobLog(log, reader=job.uid if job else None).line(f"waits: {what}")

    def _say(self, stem: str, what: str) -> bool:
        known = (stem, _RANDOM.sub("", what))
        if known in self._said:
            return False
        self._said.add(known)
        _log.warning("left alone", extra={"job": printable(stem), "why": what})
        return True

    def clear(self, names: Collection[str]) -> None:
        """A stranger's folder or FIFO under the name of a control file is no job, and who moves a file to it loses it in it."""
        for name in names:
            if self._put_aside[name] >= MOST_ASIDE:
                self.say(name, f"what somebody puts there was put aside {MOST_ASIDE} times: left alone from now on")
                continue
            self._put_aside[name] += 1
            try:
                put_aside(self._spool.folder / name)
            except OSError as error:
                self.say(name, str(error))

    def forget(self, here: Collection[str]) -> None:
        """Forget what was said of all but these names."""
        self._said = {said for said in self._said if said[0] in here}
