"""A spool that takes no more bytes: the jobs wait, whole, and the daemon does not spin."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from phd_daemon.spool import intake, transitions
from phd_daemon.spool.layout import State
from tests.phd_daemon.spool.desk import TEXT, Desk


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A waiting job, and no space left for its record."""
    desk = Desk(tmp_path / "spool", monkeypatch)
    desk.drop("crm.job")
    assert [record.stem for record in desk.round().ready] == ["crm"]

    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transitions, "write_record", no_space)
    with pytest.raises(OSError, match="No space"):
        desk.keeper.claim("crm")
    return desk


def test_a_job_that_could_not_be_claimed_still_waits(full: Desk) -> None:
    assert full.names() == ["crm.job"]


def test_it_is_left_alone_for_some_seconds(full: Desk) -> None:
    found = full.round()
    assert found.ready == ()
    assert found.after is not None
    assert found.after > 1


def test_then_it_is_tried_again(full: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("phd_daemon.spool.keeper.time.monotonic", lambda: 1e12)
    assert [record.stem for record in full.round().ready] == ["crm"]
    assert full.start() == 1
    assert full.has("crm", State.RUNNING)
    assert "without a worker" not in full.log()


def test_one_whose_file_was_only_quicker_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path / "spool", monkeypatch)
    desk.drop("crm.job")
    desk.round()
    desk.mv("crm.job", "crm.held")
    with pytest.raises(FileNotFoundError):
        desk.keeper.claim("crm")
    desk.mv("crm.held", "crm.job")
    assert [record.stem for record in desk.round().ready] == ["crm"]


@pytest.mark.parametrize("text", [TEXT, b"nonsense"])
def test_what_cannot_be_finished_is_said_once_and_not_each_time_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    """The log of a job that could not be accepted or rejected grew by the same lines every five seconds."""
    desk = Desk(tmp_path / "spool", monkeypatch)

    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(intake, "write_status", no_space)
    desk.drop("crm.job", text)
    for _ in range(4):
        desk.round()
    assert len(re.findall("accepted from|rejected: crm", desk.log())) == 1
    assert desk.log().count("waits: [Errno 28] No space left on device") == 1
    desk.drop("crm.job", text + b"\n")
    desk.round()
    assert len(re.findall("accepted from|rejected: crm", desk.log())) == 2
