"""What running jobs will still take on a datastore is not counted on by a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.daemon.starts import reserved_space
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, write_status

MIB = 1 << 20
PLAN = {"full_bytes": 30 * MIB, "delta_bytes": 10 * MIB, "zero_bytes": 60 * MIB, "keep_bytes": 0}
OVER = Outcome(attempt=1, result=Result.DONE, exit_code=0, reason="", finished_at=1.0)


class Host:
    def __init__(self, folder: Path) -> None:
        self.roots = (folder / "volumes",)
        self.store = folder / "volumes" / "A"
        self.spool = Spool(folder=folder / "spool")
        for path in (self.store, self.spool.folder):
            path.mkdir(parents=True)

    def running(
        self, job: str, *, plan: dict[str, int] | None = None, state: str = "running", outcome: Outcome | None = None
    ) -> None:
        (self.spool.folder / f"{job}.{state}").write_text("")
        status = JobStatus(
            job=job, state=state, submitter="root", delta="t:a/b", restore_to=str(self.store / f"{job}.vmdk"), priority=5,
            accepted_at=1.0, plan=plan, outcome=outcome,
        )  # fmt: skip
        write_status(self.spool.status(job), status, durable_now=False)

    def reserved_space(self) -> int:
        return reserved_space(self.spool, "new", self.store / "new.vmdk", self.roots)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_left_of_a_running_jobs_plan(host: Host) -> None:
    host.running("a", plan=PLAN)
    assert host.reserved_space() == 40 * MIB
    (host.store / "a-flat.vmdk.phd-new").write_bytes(b"x" * MIB)
    assert host.reserved_space() == 39 * MIB
    host.running("b", plan=PLAN)
    assert host.reserved_space() == 79 * MIB


def test_a_refresh_takes_its_room_in_its_redo_file(host: Host) -> None:
    host.running("a", plan=PLAN)
    staged = host.store / "a-flat.vmdk.phd-redo-part"
    staged.write_bytes(b"x" * 5 * MIB)
    assert host.reserved_space() == 35 * MIB
    staged.rename(host.store / "a-flat.vmdk.phd-redo")
    assert host.reserved_space() == 35 * MIB


def test_one_that_has_all_its_room_counts_no_more(host: Host) -> None:
    host.running("a", plan={**PLAN, "full_bytes": 0, "delta_bytes": 4096})
    (host.store / "a-flat.vmdk.phd-new").write_bytes(b"x" * 8192)
    assert host.reserved_space() == 0


def test_jobs_that_do_not_run_or_have_no_plan_or_are_over_count_nothing(host: Host) -> None:
    host.running("a")
    host.running("b", plan=PLAN, state="held")
    host.running("c", plan=PLAN, outcome=OVER)
    host.running("new", plan=PLAN)
    assert host.reserved_space() == 0


def test_another_file_system_counts_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.running("a", plan=PLAN)
    monkeypatch.setattr("phd_daemon.daemon.starts._device", lambda path, _roots: hash(path))
    assert host.reserved_space() == 0
