"""Progress reaches the log every 5 s and the status once a second, whatever the restore's own pace."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.status_file import JobStatus, read_status
from phd_daemon.worker.report import WorkerReport
from restore_core.restore.request import Phase, Progress

MB = 1 << 20


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report(tmp_path: Path, clock: Clock) -> WorkerReport:
    status = JobStatus(job="crm", state="running", submitter="", delta="", restore_to="", priority=5, accepted_at=0.0)
    return WorkerReport(log=JobLog(tmp_path / "crm.log"), path=tmp_path / "crm.status", status=status, clock=clock)


def progress(done_mb: int, phase: Phase = Phase.RESTORE) -> Progress:
    done = done_mb * MB
    return Progress(
        phase=phase, disk_size=1000 * MB, done=done, moved=done, delta_done=0, delta_total=0, full_done=done, full_total=1000 * MB,
        started=1000.0,
    )  # fmt: skip


def logged(tmp_path: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in (tmp_path / "crm.log").read_text().splitlines()]


def test_its_own_pace(tmp_path: Path, clock: Clock, report: WorkerReport, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[JobStatus] = []
    monkeypatch.setattr("phd_daemon.worker.report.write_status", lambda _path, status, **_: writes.append(status))
    for step in range(40):  # ten seconds, four times a second, 100 MB/s
        clock.now = 1000.0 + step / 4
        report.progress(progress(step * 25))
    assert [status.progress.elapsed for status in writes if status.progress] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert logged(tmp_path) == [
        "restoring",
        "Delta: 100% Full: 50%, 500 mb of 1000 mb, at 100 meg/sec, Elapsed: 00:05s Remain: 00:05s",
    ]


def test_each_phase_is_named_and_the_restore_ends_with_its_line(tmp_path: Path, clock: Clock, report: WorkerReport) -> None:
    report.progress(progress(10))
    clock.now += 2
    for phase in (Phase.FLUSH, Phase.READBACK, Phase.PUBLISH):
        report.progress(progress(1000, phase))
    last = "Delta: 100% Full: 100%, 1000 mb of 1000 mb, at 500 meg/sec, Elapsed: 00:02s Remain: 00:00s"
    assert logged(tmp_path) == ["restoring", last, "making it durable", "reading it back", "publishing"]


def test_a_restore_too_quick_to_be_seen_still_has_its_line(tmp_path: Path, clock: Clock, report: WorkerReport) -> None:
    clock.now += 1
    report.progress(progress(1000, Phase.FLUSH))
    assert logged(tmp_path)[0].startswith("Delta: 100% Full: 100%, 1000 mb of 1000 mb, at 1000 meg/sec")


def test_a_spool_that_is_gone_does_not_end_the_restore(tmp_path: Path, clock: Clock, report: WorkerReport) -> None:
    tmp_path.rename(tmp_path.with_name("gone"))
    clock.now += 10
    report.progress(progress(10))
    report.note("still here")
    assert read_status(tmp_path / "crm.status") is None
