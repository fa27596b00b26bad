"""What a waiting job is told, and how often."""

from __future__ import annotations

import time
from pathlib import Path

from phd_daemon.daemon.loop import Guard
from phd_daemon.daemon.starts import WaitReasons
from phd_daemon.spool.events import ignore
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.scheduler import StartPlan, Wait
from phd_daemon.spool.status_file import JobStatus, read_status, write_status

AWAY = Wait(why="waits for its datastore: not mounted", unmounted=True)


def plan(wait: Wait) -> StartPlan:
    return StartPlan(start=(), waits={"crm": wait}, next_due=None)


def test_a_datastore_that_is_away_is_logged_once(tmp_path: Path) -> None:
    """Also when it was not looked at in between, since all workers were busy; and again when it went away anew."""
    spool = Spool(folder=tmp_path)
    waits = WaitReasons(spool, Guard(ignore))
    status = JobStatus(
        job="crm", state="waiting", submitter="root", delta="a", restore_to="/a", priority=5, accepted_at=1.0, next_try=time.time()
    )
    write_status(spool.status("crm"), status, durable_now=False)
    for wait in (AWAY, AWAY, Wait(why="waits for its turn"), AWAY):
        waits.tell(plan(wait))
    told = read_status(spool.status("crm"))
    assert told is not None
    assert (told.why_waiting, told.next_try) == (AWAY.why, None)
    assert spool.log("crm").read_text().count("not mounted") == 1
    waits.tell(StartPlan(start=("crm",), waits={}, next_due=None))
    waits.tell(plan(AWAY))
    assert spool.log("crm").read_text().count("not mounted") == 2
