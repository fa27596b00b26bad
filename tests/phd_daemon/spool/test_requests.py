"""What people may do, through the command line's own functions: renames, unlinks, and clear refusals."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from phd_daemon.spool import requests
from phd_daemon.spool.layout import Spool, State
from phd_daemon.spool.purge import ended_at, finished, purge
from phd_daemon.spool.status_file import JobStatus, write_status
from restore_core.errors import UsageError

DAY = 86400.0


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def put(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).write_text("x")


def status(folder: Path, job: str, *, state: str, finished_at: float | None) -> None:
    found = JobStatus(
        job=job, state=state, submitter="root", delta="", restore_to="", priority=5, accepted_at=1.0, finished_at=finished_at
    )
    write_status(folder / f"{job}.status", found, durable_now=False)


def test_hold_release_cancel_retry(tmp_path: Path) -> None:
    put(tmp_path, "a.job")
    requests.hold(tmp_path, "a")
    assert names(tmp_path) == ["a.held"]
    requests.release(tmp_path, "a")
    assert names(tmp_path) == ["a.job"]
    requests.cancel(tmp_path, "a")
    assert names(tmp_path) == ["a.cancelled"]
    requests.retry(tmp_path, "a")
    assert names(tmp_path) == ["a.job"]


@pytest.mark.parametrize("source", ["running", "job", "held"])
def test_cancel_from(tmp_path: Path, source: str) -> None:
    put(tmp_path, f"a.{source}")
    requests.cancel(tmp_path, "a")
    assert names(tmp_path) == ["a.cancelled"]


def test_cancel_of_a_running_one_over_an_old_cancelled_one(tmp_path: Path) -> None:
    put(tmp_path, "a.running", "a.cancelled")
    requests.cancel(tmp_path, "a")
    assert names(tmp_path) == ["a.cancelled"]


@pytest.mark.parametrize("source", ["failed", "cancelled", "rejected", "done"])
def test_retry_from(tmp_path: Path, source: str) -> None:
    put(tmp_path, f"a.{source}")
    requests.retry(tmp_path, "a")
    assert names(tmp_path) == ["a.job"]


def test_refusals_say_what_it_is(tmp_path: Path) -> None:
    put(tmp_path, "a.running")
    with pytest.raises(UsageError, match="a cannot be held: it is running"):
        requests.hold(tmp_path, "a")
    with pytest.raises(UsageError, match="cannot be tried again: it is running"):
        requests.retry(tmp_path, "a")
    with pytest.raises(UsageError, match="there is no such job"):
        requests.cancel(tmp_path, "none")


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    put(tmp_path, "a.failed")
    (tmp_path / "a.job").write_text("newer")
    with pytest.raises(UsageError, match=r"a\.job exists already"):
        requests.retry(tmp_path, "a")
    assert (tmp_path / "a.job").read_text() == "newer"


def test_states(tmp_path: Path) -> None:
    put(tmp_path, "a.running", "a.job")
    assert requests.states(tmp_path, "a") == (State.WAITING, State.RUNNING)


def test_clean_takes_finished_ones_only(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.done",
        "a.log",
        "a.status",
        "a.~1.failed",
        "a.~1.log",
        "b.running",
        "b.log",
        "c.job",
        "c.log",
        "d.held",
        "e.log",
    )
    put(tmp_path, "f.done", "f.job", "f.log", "notes.txt")
    assert requests.clean(tmp_path) == ["a", "a.~1", "e"]
    assert names(tmp_path) == ["b.log", "b.running", "c.job", "c.log", "d.held", "f.done", "f.job", "f.log", "notes.txt"]


def test_clean_by_name(tmp_path: Path) -> None:
    put(tmp_path, "a.done", "a.log", "b.done", "c.running")
    with pytest.raises(UsageError, match="c cannot be cleaned up: it is running"):
        requests.clean(tmp_path, ["c"])
    assert requests.clean(tmp_path, ["a"]) == ["a"]
    assert names(tmp_path) == ["b.done", "c.running"]


def test_a_job_that_is_being_cancelled_keeps_its_log(tmp_path: Path) -> None:
    put(tmp_path, "a.log")
    status(tmp_path, "a", state="running", finished_at=None)
    assert finished(Spool(folder=tmp_path)) == []


class TestPurge:
    def test_counts_from_the_end_of_the_job(self, tmp_path: Path) -> None:
        now = time.time()
        put(tmp_path, "old.done", "old.log", "new.done", "new.log")
        for name in ("old.done", "new.done"):  # dropped long ago, and the file's time says nothing anyway
            os.utime(tmp_path / name, (1, 1))
        status(tmp_path, "old", state="done", finished_at=now - 31 * DAY)
        status(tmp_path, "new", state="done", finished_at=now - 29 * DAY)
        assert purge(Spool(folder=tmp_path), older_than=30 * DAY, now=now, busy=()) == ["old"]
        assert names(tmp_path) == ["new.done", "new.log", "new.status"]

    def test_without_a_status_the_newest_time_counts(self, tmp_path: Path) -> None:
        now = time.time()
        put(tmp_path, "a.log", "b.~1.log", "c.done")
        os.utime(tmp_path / "a.log", (1, 1))
        os.utime(tmp_path / "b.~1.log", (now, now))
        os.utime(tmp_path / "c.done", (1, 1))
        assert purge(Spool(folder=tmp_path), older_than=DAY, now=now, busy=()) == ["a"]
        assert purge(Spool(folder=tmp_path), older_than=DAY, now=now + 2 * DAY, busy=("b.~1",)) == ["c"]

    def test_never_what_may_still_run(self, tmp_path: Path) -> None:
        put(tmp_path, "a.running", "a.log", "b.job", "b.log", "c.held", "c.log")
        assert purge(Spool(folder=tmp_path), older_than=0, now=time.time() + DAY, busy=()) == []

    def test_nothing_there_never_ended(self, tmp_path: Path) -> None:
        assert ended_at(Spool(folder=tmp_path), "none") == 0.0


def test_the_way_out_of_two_jobs_with_one_name(tmp_path: Path) -> None:
    put(tmp_path, "-rf.job", "-rf.held", "b.running", "b.job", "b.cancelled")
    with pytest.raises(UsageError) as caught:
        requests.hold(tmp_path, "-rf")
    assert "'mv -- -rf.held '-rf.~1.held''" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        requests.release(tmp_path, "-rf")
    assert "'phd cancel -- -rf'" in caught.value.remedy
    (tmp_path / "b.running").unlink()
    requests.cancel(tmp_path, "b")
    assert {"b.cancelled", "b.~1.cancelled"} <= set(os.listdir(tmp_path))
