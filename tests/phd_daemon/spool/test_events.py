"""The stream of events: which ones a job brings, what they hold, and what the daemon's log makes of them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import get_args

import pytest

from phd_daemon.daemon.logs import log_event
from phd_daemon.spool import events
from phd_daemon.spool.intake import SubmittedFile
from phd_daemon.spool.layout import State
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.status_file import Result
from restore_core.disk.identity import FileIdentity
from restore_core.errors import BadControlFile
from tests.phd_daemon.spool.desk import Desk, control

FOLDER = "2007.09.21-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


def kinds(desk: Desk) -> list[str]:
    return [type(event).__name__ for event in desk.events]


def test_a_job_from_acceptance_to_its_end(desk: Desk) -> None:
    desk.drop("auto-crm.job", f'delta = "nas1:{FOLDER}/d.phd"\nrestore_to = "/vmfs/volumes/ds1/crm.vmdk"\n'.encode())
    desk.round()
    desk.start("auto-crm")
    desk.finish("auto-crm", Result.TRY_AGAIN)
    desk.round()
    os.utime(desk.folder / "auto-crm.job")
    desk.round()
    desk.start("auto-crm")
    desk.finish("auto-crm")
    desk.round()
    assert kinds(desk) == ["JobAccepted", "JobWaitsAgain", "JobEnded"]
    accepted, again, ended = desk.events
    assert isinstance(accepted, events.JobAccepted)
    assert (accepted.job.stem, accepted.vm, accepted.of_rule, accepted.job.submitter) == ("auto-crm", "CRM", True, "root")
    assert isinstance(again, events.JobWaitsAgain)
    assert (again.job.tries, again.why, again.job.next_try is not None) == (1, "as played", True)
    assert isinstance(ended, events.JobEnded)
    assert (ended.job.state.meaning, ended.reason, ended.exit_code, ended.job.attempt) == ("done", "as played", 0, 2)
    assert ended.seconds is not None
    assert 0 <= ended.seconds < 60
    assert ended.plan == {}


def test_a_rejected_file(desk: Desk) -> None:
    desk.drop("crm.job", b"delta = 1")
    desk.round()
    (event,) = desk.events
    assert isinstance(event, events.JobRejected)
    assert (event.name, event.file.submitter, event.error.exit_code) == ("crm", "root", 65)
    assert "restore_to is missing" in event.error.message


@pytest.mark.parametrize(("state", "kind"), [("job", "JobWithdrawn"), ("done", "JobForgotten")])
def test_a_control_file_that_was_removed(desk: Desk, state: str, kind: str) -> None:
    desk.drop("crm.job")
    desk.round()
    if state == "done":
        desk.start()
        desk.finish()
        desk.round()
    desk.rm(f"crm.{state}")
    desk.round()
    assert kinds(desk)[-1] == kind


def test_a_cancelled_job_without_an_attempt(desk: Desk) -> None:
    desk.drop("crm.job", control())
    desk.round()
    desk.mv("crm.job", "crm.cancelled")
    desk.round()
    ended = desk.events[-1]
    assert isinstance(ended, events.JobEnded)
    assert (ended.job.state.meaning, ended.reason, ended.exit_code) == ("cancelled", "cancelled before it ran", 130)
    assert ended.seconds is None


def test_a_namesake_renames_a_held_job(desk: Desk) -> None:
    desk.drop("crm.job")
    desk.round()
    desk.mv("crm.job", "crm.held")
    desk.round()
    desk.drop("crm.job", control("other"))
    desk.round()
    assert kinds(desk) == ["JobAccepted", "JobRenamed", "JobAccepted"]


SEEN = SubmittedFile(identity=FileIdentity(inode=1, generation=1), size=0, mtime_ns=0, ctime_ns=0, uid=0, submitter="root")
JOB = JobRecord(
    stem="a\tb", state=State.FAILED, identity=SEEN.identity, size=0, mtime_ns=0, not_before_ns=0, arrived_ns=0,
    accepted_at=0.0, uid=0, submitter="root", attempt=3,
)  # fmt: skip
ENDED = events.JobEnded(job=JOB, reason="asleep\nwait", exit_code=69, status=None)
LINES: list[tuple[events.Event, str, str, dict[str, object]]] = [
    (events.JobAccepted(job=JOB), "INFO", "accepted", {"job": "a%09b", "submitter": "root"}),
    (events.JobStarted(job=JOB, pid=7), "INFO", "started", {"job": "a%09b", "attempt": 3, "pid": 7}),
    (events.JobAdopted(job=JOB, pid=None), "INFO", "adopted", {"job": "a%09b", "attempt": 3, "pid": None}),
    (events.JobWaitsAgain(job=JOB, why="asleep"), "INFO", "waits again", {"job": "a%09b", "why": "asleep"}),
    (ENDED, "INFO", "failed", {"job": "a%09b", "why": "asleep. wait"}),
    (events.JobRenamed(job=JOB), "INFO", "steps aside", {"job": "a%09b", "why": "a newer one has its name"}),
    (events.JobWithdrawn(job=JOB), "INFO", "withdrawn", {"job": "a%09b", "why": "its control file was removed"}),
    (events.JobForgotten(job=JOB), "INFO", "forgotten", {"job": "a%09b", "why": "its control file was removed"}),
    (events.JobRejected(name="x", file=SEEN, error=BadControlFile("no")), "WARNING", "rejected", {"job": "x", "why": "no"}),
    (events.JobNotStarted(name="x", why="full"), "WARNING", "put back", {"job": "x", "why": "full"}),
    (events.PassEnded(exit_code=0, said="ok", seconds=1, record=None), "INFO", "replication pass", {"exit_code": 0, "said": "ok"}),
    (events.PassEnded(exit_code=9, said="", seconds=1, record=None), "WARNING", "replication pass", {"exit_code": 9, "said": ""}),
    (events.DaemonStarted(spool=Path("/s"), pid=1), "INFO", "ready", {"spool": "/s", "pid": 1}),
    (events.DaemonStopped(workers_left=("x",)), "INFO", "stopped", {"workers left": ["x"]}),
    (events.BugFound(error=KeyError("k"), message="a bug", step="turn", name="x"), "ERROR", "a bug", {"step": "turn", "job": "x"}),
]
SAID_ELSEWHERE: list[events.Event] = [
    events.PassStarted(pid=1),
    events.TargetLost(target="nas1", why="no answer"),
    events.TargetPartial(target="nas1", why="a folder cannot be read"),
    events.TargetBack(target="nas1"),
    events.DatastoreLost(datastore=Path("/ds"), why="not mounted"),
    events.DatastoreBack(datastore=Path("/ds")),
]


@pytest.mark.parametrize(("event", "level", "message", "facts"), LINES, ids=lambda case: type(case).__name__)
def test_the_line_of_the_log(
    event: events.Event, level: str, message: str, facts: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_event(event)
    (line,) = caplog.records
    assert (line.levelname, line.message) == (level, message)
    assert {key: line.__dict__[key] for key in facts} == facts
    assert (line.exc_info is not None) == isinstance(event, events.BugFound)


def test_every_event_has_a_line_or_is_said_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    for event in SAID_ELSEWHERE:
        log_event(event)
    assert caplog.records == []
    assert {type(line[0]) for line in LINES} | {type(event) for event in SAID_ELSEWHERE} == set(get_args(events.Event))
