"""Why jobs wait, told to people: in `JOB.status` for `phd queue`, and for a datastore that is not there in the job's log, too."""

from __future__ import annotations

import logging

from phd_daemon.daemon.guard import guarded
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.scheduler import Plan
from phd_daemon.spool.status_file import read_status, write_status
from restore_core.naming import printable

_log = logging.getLogger(__name__)


class Waits:
    """Remembers what was told, so that each reason is written once."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._logged: dict[str, str] = {}

    def tell(self, spool: Spool, plan: Plan) -> None:
        """Write down who waits for whose destination or for its datastore; all other reasons `phd queue` sees by itself.

        Raises `OSError`.
        """
        waits = {name: wait.why for name, wait in plan.waits.items() if wait.behind is not None or wait.unmounted}
        for name in waits.keys() | self._told.keys():
            if waits.get(name) != self._told.get(name) and name in plan.waits:
                if plan.waits[name].unmounted and self._logged.get(name) != waits[name]:
                    JobLog(spool.log(name)).line(waits[name])
                    self._logged[name] = waits[name]
                with guarded("reason to wait", name):
                    _write(spool, name, waits.get(name, ""))
        self._told = waits
        # While all workers are busy nobody looks at the datastore: that is no news for the log.
        self._logged = {name: why for name, why in self._logged.items() if name in plan.waits}


def _write(spool: Spool, name: str, why: str) -> None:
    status = read_status(spool.status(name))
    if status is None:
        return
    told = status.with_(why_waiting=why)
    if why:  # had it waited for its next try, that time has come: from now on it waits for this
        told = told.with_(next_try=None)
    try:
        write_status(spool.status(name), told, durable_now=False)
    except OSError as error:
        _log.warning("why it waits cannot be written down", extra={"job": printable(name), "why": str(error)})
