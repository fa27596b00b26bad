"""What a killed process leaves behind goes; what the daemon says of a job's end has its reason."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from phd_daemon.spool.purge import purge
from phd_daemon.spool.status_file import Result
from tests.phd_daemon.spool.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


def test_torn_replacements_of_a_killed_process_are_purged(desk: Desk) -> None:
    desk.spool.receipts.mkdir()
    folders = (desk.folder, desk.spool.state_folder, desk.spool.receipts)
    old, young, other = ".phd-0123456789abcdef.tmp", ".phd-fedcba9876543210.tmp", ".phd-notes.tmp"
    for folder in folders:
        for name in (old, young, other):
            (folder / name).write_text("{")
            if name != young:
                os.utime(folder / name, (0, time.time() - 7200))
    purge(desk.spool, older_than=1e9, now=time.time(), busy=())
    for folder in folders:
        assert {name for name in os.listdir(folder) if name.startswith(".phd-")} == {young, other}


def test_the_daemon_says_why_a_job_failed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.drop("crm.job")
    desk.round()
    desk.start()
    desk.finish(result=Result.FAILED)
    with caplog.at_level(logging.INFO):
        desk.round()
    (line,) = [record for record in caplog.records if record.message == "failed"]
    assert line.__dict__["why"] == "as played"


def test_one_thing_that_cannot_be_removed_keeps_no_other_from_it(desk: Desk) -> None:
    (desk.folder / "a.log").mkdir()
    (desk.folder / "b.done").write_text("x")
    assert purge(desk.spool, older_than=60, now=time.time() + 7200, busy=()) == ["b"]
    assert desk.names() == []


def test_a_running_jobs_log_is_never_purged(desk: Desk) -> None:
    """Not while its control file lies there, not while somebody has taken that away, not while only its name moves."""
    desk.drop("crm.job")
    desk.round()
    desk.start()
    for there in ("crm.running", None, "crm.failed"):
        if there != "crm.running":
            (desk.folder / "crm.running").unlink(missing_ok=True)
        if there is not None:
            (desk.folder / there).touch()
        assert purge(desk.spool, older_than=-1e9, now=time.time() + 1e6, busy={"crm"}) == []
        assert desk.spool.log("crm").exists()
    assert purge(desk.spool, older_than=0, now=time.time() + 1e6, busy=()) == ["crm"]
    assert not desk.spool.log("crm").exists()
