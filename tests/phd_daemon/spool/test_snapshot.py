"""The spool as data: from the folder and the status files alone, in the order of the queue."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from phd_daemon.spool import snapshot as snapshots
from phd_daemon.spool.layout import State
from phd_daemon.spool.locks import PidLock
from phd_daemon.spool.snapshot import JobView, ReadStatuses, daemon_running, snapshot
from phd_daemon.spool.status_file import JobStatus, LiveProgress, Outcome, Result, read_status, write_status

NOW = time.time()


def put(folder: Path, name: str, **facts: object) -> None:
    (folder / name).write_text("x")
    os.utime(folder / name, (1, 1))
    stem, _, suffix = name.rpartition(".")
    status = JobStatus(
        job=stem,
        state=State(suffix).meaning,
        submitter="ann",
        delta="nas1:x/y.phd",
        restore_to="/d/x.vmdk",
        priority=5,
        accepted_at=1.0,
    ).with_(**facts)
    write_status(folder / f"{stem}.status", status, durable_now=False)


def views(folder: Path) -> dict[str, JobView]:
    return {view.name: view for view in snapshot(folder, NOW)}


def test_order(tmp_path: Path) -> None:
    put(tmp_path, "late.job", accepted_at=9.0)
    put(tmp_path, "early.job", accepted_at=2.0)
    put(tmp_path, "first.job", accepted_at=9.0, priority=0)
    put(tmp_path, "parked.held")
    put(tmp_path, "busy.running", started_at=5.0)
    put(tmp_path, "new.done", finished_at=8.0)
    put(tmp_path, "old.failed", finished_at=7.0)
    assert [view.name for view in snapshot(tmp_path, NOW)] == ["busy", "first", "early", "late", "parked", "old", "new"]


def test_running_shows_progress(tmp_path: Path) -> None:
    progress = LiveProgress(phase="restoring", percent=50.0, done=1, total=2, rate=3.0, elapsed=4.0, remaining=5.0, line="half")
    put(tmp_path, "a.running", progress=progress, started_at=5.0)
    view = views(tmp_path)["a"]
    assert (view.progress, view.since, view.submitter, view.accepted) == (progress, 5.0, "ann", True)


def test_final_shows_why(tmp_path: Path) -> None:
    outcome = Outcome(attempt=1, result=Result.FAILED, exit_code=65, reason="block 7 differs", finished_at=8.0)
    put(tmp_path, "a.failed", outcome=outcome, finished_at=8.0)
    view = views(tmp_path)["a"]
    assert (view.why, view.exit_code, view.since) == ("block 7 differs", 65, 8.0)


def test_why_it_waits(tmp_path: Path) -> None:
    put(tmp_path, "retry.job", next_try=NOW + 100, why_waiting="nas1 does not answer")
    put(tmp_path, "due.job", next_try=NOW - 100, why_waiting="nas1 does not answer")
    put(tmp_path, "behind.job", why_waiting="waits for crm, same destination")
    put(tmp_path, "plain.job")
    put(tmp_path, "later.job")
    os.utime(tmp_path / "later.job", (NOW + 500, NOW + 500))
    (tmp_path / "fresh.job").write_text("x")
    os.utime(tmp_path / "fresh.job", (1, 1))
    found = views(tmp_path)
    assert found["retry"].why.startswith("waits until ")
    assert found["retry"].why.endswith(": nas1 does not answer")
    assert found["retry"].until == NOW + 100
    assert found["due"].why == found["plain"].why == "waits for its turn"
    assert found["behind"].why == "waits for crm, same destination"
    assert found["later"].why.startswith("scheduled, waits until ")
    assert (found["fresh"].why, found["fresh"].accepted) == ("not accepted yet", False)


def test_a_namesake_has_no_status_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "crm.running")
    (tmp_path / "crm.job").write_text("x")
    found = {view.state: view for view in snapshot(tmp_path, NOW)}
    assert found[State.RUNNING].submitter == "ann"
    assert found[State.WAITING].why == "waits for the running job of the same name"
    assert found[State.WAITING].delta == ""


def test_rotated_ones_are_marked(tmp_path: Path) -> None:
    put(tmp_path, "crm.~1.done")
    put(tmp_path, "crm.done")
    found = views(tmp_path)
    assert found["crm.~1"].rotated
    assert not found["crm"].rotated


def test_what_is_no_job(tmp_path: Path) -> None:
    (tmp_path / "folder.job").mkdir()
    (tmp_path / ".hidden.job").write_text("")
    (tmp_path / "crm.log").write_text("")
    assert snapshot(tmp_path, NOW) == ()


def test_no_spool(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        snapshot(tmp_path / "none", NOW)


def test_daemon_running(tmp_path: Path) -> None:
    assert daemon_running(tmp_path) is None
    (tmp_path / ".state").mkdir()
    lock = PidLock(tmp_path / ".state" / ".daemon.lock")
    lock.acquire()
    assert daemon_running(tmp_path) == 0
    with lock:
        assert daemon_running(tmp_path) == os.getpid()
    assert daemon_running(tmp_path) is None


def test_a_held_job_is_held_since_it_was_parked(tmp_path: Path) -> None:
    put(tmp_path, "a.held", accepted_at=5.0)
    (view,) = snapshot(tmp_path, 0.0)
    assert view.since == (tmp_path / "a.held").stat().st_ctime


def test_who_looks_again_reads_only_the_status_files_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console read all of them each second: with 5,000 jobs that was half a processor."""
    for number in range(20):
        put(tmp_path, f"job{number}.job", accepted_at=float(number))
    known: ReadStatuses = {}
    assert snapshot(tmp_path, NOW, known) == snapshot(tmp_path, NOW)
    read: list[str] = []

    def counted(path: Path) -> JobStatus | None:
        read.append(path.name)
        return read_status(path)

    monkeypatch.setattr(snapshots, "read_status", counted)
    assert len(snapshot(tmp_path, NOW, known)) == 20
    assert read == []
    put(tmp_path, "job3.job", priority=1)
    (tmp_path / "job4.job").rename(tmp_path / "job4.cancelled")
    (tmp_path / "job5.status").unlink()
    (tmp_path / "job6.job").unlink()
    (tmp_path / "new.job").write_text("x")
    seen = snapshot(tmp_path, NOW, known)
    assert read == ["job3.status"]
    assert seen == snapshot(tmp_path, NOW)
    assert set(known) == {f"job{number}" for number in range(20)} - {"job6"}
