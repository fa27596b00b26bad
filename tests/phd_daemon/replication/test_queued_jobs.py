"""The queue as a rule sees it: also what the daemon has not taken yet, and what it has rejected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.replication.one_pass import queued_jobs
from phd_daemon.spool.control_file import ControlFile
from phd_daemon.spool.intake import IntakeRules
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.status_file import Result
from restore_core.errors import BadControlFile
from restore_core.replication.selection import JobPhase
from tests.phd_daemon.spool.desk import Desk, control


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


def test_every_state(desk: Desk) -> None:
    for name, result in (("done", Result.DONE), ("bad", Result.FAILED), ("off", Result.CANCELLED)):
        desk.drop(f"{name}.job", control(name))
        desk.round()
        desk.start(name)
        desk.finish(name, result)
    desk.mv("off.running", "off.cancelled")
    desk.round()
    desk.drop("waits.job", control("waits"))
    desk.round()
    desk.drop("fresh.job", control("fresh"))
    desk.drop("parked.held", control("parked"))
    desk.drop("noise.held", b"\0\1")
    os.symlink("/etc/passwd", desk.folder / "link.held")
    found = {job.name: job for job in queued_jobs(desk.spool)}
    assert {name: job.phase for name, job in found.items()} == {
        "done": JobPhase.DONE,
        "bad": JobPhase.FAILED,
        "off": JobPhase.CANCELLED,
        "waits": JobPhase.ACTIVE,
        "fresh": JobPhase.ACTIVE,
        "parked": JobPhase.ACTIVE,
    }
    assert found["parked"].archive == "/backups/parked.phd"
    assert found["fresh"].destination == Path("/vmfs/volumes/ds1/fresh.vmdk")
    assert (found["bad"].exit_code, found["done"].exit_code, found["waits"].exit_code) == (65, 0, None)
    assert found["bad"].finished is not None
    assert found["waits"].finished is None


def test_a_rejected_job_is_a_failed_one(desk: Desk) -> None:
    def refuse(_text: bytes, _submitter: str) -> ControlFile:
        raise BadControlFile("not here")

    desk.policy = IntakeRules(validate=refuse, submitters=("root",))
    desk.drop("no.job", control("no"))
    desk.round()
    assert desk.names() == ["no.rejected"]
    (job,) = queued_jobs(desk.spool)
    assert (job.phase, job.archive) == (JobPhase.FAILED, "/backups/no.phd")


def test_no_spool(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        queued_jobs(Spool(folder=tmp_path / "gone"))
