"""Another priority for a waiting job, and a next try that need not be waited for: place, tries, log and schedule stay."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.spool import requests
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.layout import State
from phd_daemon.spool.requests import set_priority
from phd_daemon.spool.status_file import Result
from restore_core import durable
from restore_core.errors import BadControlFile, TryAgainLater, UsageError
from tests.phd_daemon.spool.desk import TEXT, Desk, control


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


@pytest.fixture
def waiting(desk: Desk) -> Desk:
    desk.drop("crm.job", b"# for Bob\n" + TEXT + b"priority = 7 # not now\n")
    desk.round()
    return desk


@pytest.fixture
def backing_off(waiting: Desk) -> Desk:
    waiting.start()
    waiting.finish(result=Result.TRY_AGAIN)
    assert [record.next_try is not None for record in waiting.round().ready] == [True]
    return waiting


def test_it_is_the_same_job_with_another_priority(waiting: Desk) -> None:
    before = waiting.record()
    assert set_priority(waiting.folder, "crm", 2) == 7
    ready = waiting.round().ready
    after = waiting.record()
    assert ready == (after,)
    assert after.control == parse_control_file(TEXT + b"priority = 2")
    assert (after.arrived_ns, after.accepted_at, after.submitter) == (before.arrived_ns, before.accepted_at, before.submitter)
    assert waiting.status().priority == 2
    assert waiting.files() == ["crm.job", "crm.log", "crm.status"]
    assert (waiting.folder / "crm.job").read_text() == "# for Bob\n" + TEXT.decode() + "priority = 2 # not now\n"
    assert waiting.log().count("accepted from") == 1
    assert "priority 2 from now on" in waiting.log()
    assert waiting.start() == 1


def test_a_file_without_the_key_gets_it(desk: Desk) -> None:
    desk.drop("crm.job")
    assert set_priority(desk.folder, "crm", 0) == 5
    desk.round()
    assert desk.status().priority == 0
    assert "replaced" not in desk.log()


def test_the_same_priority_changes_nothing(waiting: Desk) -> None:
    before = os.stat(waiting.folder / "crm.job")
    assert set_priority(waiting.folder, "crm", 7) == 7
    assert os.stat(waiting.folder / "crm.job") == before


def test_tries_and_their_waits_stay(backing_off: Desk) -> None:
    before = backing_off.record()
    set_priority(backing_off.folder, "crm", 1)
    ready = backing_off.round().ready
    assert [(one.attempt, one.tries, one.next_try) for one in ready] == [(1, 1, before.next_try)]
    assert backing_off.status().next_try == before.next_try
    backing_off.restart()
    assert backing_off.round().ready == ready


def test_owner_mode_and_schedule_stay(waiting: Desk) -> None:
    path = waiting.folder / "crm.job"
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    later = time.time() + 3600
    os.utime(path, (later, later))
    before = os.stat(path)
    set_priority(waiting.folder, "crm", 1)
    after = os.stat(path)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime_ns == before.st_mtime_ns  # although the daemon has not looked yet


def test_an_edit_leaves_the_schedule_alone(desk: Desk) -> None:
    desk.drop("crm.job")
    later = time.time() + 3600
    os.utime(desk.folder / "crm.job", (later, later))
    desk.round()
    with (desk.folder / "crm.job").open("ab") as file:
        file.write(b"# an edit\n")
    set_priority(desk.folder, "crm", 1)
    assert os.stat(desk.folder / "crm.job").st_mtime == later


def test_an_edit_that_counted_for_nothing_goes_on_counting_for_nothing(waiting: Desk) -> None:
    with (waiting.folder / "crm.job").open("ab") as file:
        file.write(b"overwrite = true\n")
    set_priority(waiting.folder, "crm", 1)
    waiting.round()
    accepted = waiting.record().control
    assert accepted is not None
    assert (accepted.priority, accepted.options.overwrite) == (1, False)


def test_a_request_that_differs_in_more_is_a_new_one(waiting: Desk) -> None:
    arrived = waiting.record().arrived_ns
    waiting.drop("crm.job", control("crm", priority=1, overwrite=True))
    waiting.round()
    assert "replaced, before it ran" in waiting.log()
    assert waiting.record().arrived_ns > arrived


def test_the_same_wish_of_somebody_else_is_a_new_request(waiting: Desk) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file somebody else's")
    waiting.policy = replace(waiting.policy, submitters=("12345",))
    waiting.drop("crm.job", (waiting.folder / "crm.job").read_bytes().replace(b"7", b"1"))
    os.chown(waiting.folder / "crm.job", 12345, 12345)
    waiting.round()
    assert "replaced, before it ran" in waiting.log()
    assert (waiting.record().submitter, waiting.status().submitter) == ("12345", "12345")


@pytest.mark.parametrize("name", ["crm.held", "crm.running", "crm.done", "other.job"])
def test_only_a_waiting_job_has_a_turn_to_wait_for(desk: Desk, name: str) -> None:
    desk.drop(name)
    with pytest.raises(UsageError, match="cannot be given another priority"):
        set_priority(desk.folder, "crm", 1)
    with pytest.raises(UsageError):
        set_priority(desk.folder, "../crm", 1)
    assert desk.files() == [name]


def test_a_file_that_is_no_control_file(desk: Desk) -> None:
    desk.drop("crm.job", b"delta = 1\n")
    with pytest.raises(BadControlFile):
        set_priority(desk.folder, "crm", 1)
    assert (desk.folder / "crm.job").read_bytes() == b"delta = 1\n"


def test_a_job_that_starts_at_that_moment_is_not_asked_for_twice(waiting: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = durable.exchange

    def late(one: Path, other: Path) -> None:
        waiting.start()
        exchange(one, other)

    monkeypatch.setattr(durable, "exchange", late)
    with pytest.raises(UsageError, match="it is running"):
        set_priority(waiting.folder, "crm", 1)
    assert waiting.names() == ["crm.running"]
    assert not [name for name in waiting.files() if name.endswith(".tmp")]


def test_another_file_that_comes_at_that_moment_wins(waiting: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, moments = durable.exchange, [b"x"]

    def late(one: Path, other: Path) -> None:
        if moments:
            moments.clear()
            waiting.drop("crm.job", control("other"))
        exchange(one, other)

    monkeypatch.setattr(durable, "exchange", late)
    with pytest.raises(TryAgainLater, match="at the same moment"):
        set_priority(waiting.folder, "crm", 1)
    assert (waiting.folder / "crm.job").read_bytes() == control("other")
    assert waiting.files() == ["crm.job", "crm.log", "crm.status"]


def test_somebody_elses_job_is_not_made_ours(waiting: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(durable, "copy_owner_and_mode", refuse)
    before = (waiting.folder / "crm.job").read_bytes()
    with pytest.raises(UsageError, match="belongs to user"):
        set_priority(waiting.folder, "crm", 1)
    assert (waiting.folder / "crm.job").read_bytes() == before


def test_in_a_drop_box_that_may_be_written_but_not_read(waiting: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(durable, "sync_folder", refuse)
    assert set_priority(waiting.folder, "crm", 1) == 7
    assert parse_control_file((waiting.folder / "crm.job").read_bytes()).priority == 1
    requests.hold(waiting.folder, "crm")
    assert waiting.files() == ["crm.held", "crm.log", "crm.status"]
    monkeypatch.setattr(durable, "_rename_noreplace", refuse)
    with pytest.raises(PermissionError):
        requests.release(waiting.folder, "crm")


class TestRetry:
    def test_a_next_try_need_not_be_waited_for(self, backing_off: Desk) -> None:
        requests.retry(backing_off.folder, "crm")
        ready = backing_off.round().ready
        assert [(one.next_try, one.tries) for one in ready] == [(None, 1)]
        assert "need not wait any longer" in backing_off.log()
        assert backing_off.status().next_try is None
        assert backing_off.start() == 2

    def test_after_hold_and_release_too(self, backing_off: Desk) -> None:
        requests.hold(backing_off.folder, "crm")
        backing_off.round()
        requests.release(backing_off.folder, "crm")
        backing_off.round()
        requests.retry(backing_off.folder, "crm")
        assert [one.next_try for one in backing_off.round().ready] == [None]

    def test_a_job_that_waits_for_its_turn_is_not_tried_again(self, waiting: Desk) -> None:
        with pytest.raises(UsageError, match="it is waiting"):
            requests.retry(waiting.folder, "crm")

    def test_an_edit_does_not_hurry_it(self, backing_off: Desk) -> None:
        with (backing_off.folder / "crm.job").open("ab") as file:
            file.write(b"# hurry\n")
        assert [one.next_try is None for one in backing_off.round().ready] == [False]

    def test_a_held_one_stays_held(self, backing_off: Desk) -> None:
        requests.hold(backing_off.folder, "crm")
        backing_off.round()
        with pytest.raises(UsageError, match="it is held"):
            requests.retry(backing_off.folder, "crm")
        assert backing_off.has("crm", State.HELD)
