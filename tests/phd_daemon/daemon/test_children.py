"""Real child processes with the fake worker: the lock lives in the worker alone, and every end is heard of."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.daemon.children import Worker, Workers
from phd_daemon.spool.locks import lock_is_held, take_lock
from phd_daemon.spool.status_file import JobStatus, read_status
from phd_daemon.worker.order import WorkOrder
from restore_core.restore.request import RestoreOptions

FAKE = Path(__file__).resolve().parents[1] / "spool" / "fake_worker.py"
PATIENCE = 30.0


class Yard:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".state").mkdir()
        self.workers = Workers([sys.executable, str(FAKE)])
        self.lock = folder / ".state" / "crm.lock"

    def start(self, wishes: str) -> Worker:
        (self.folder / "crm.running").write_text("")
        fd = take_lock(self.lock)
        assert fd is not None
        order = WorkOrder(
            job="crm", attempt=1, spool=str(self.folder), lock_fd=fd, delta=f"/fake/{wishes}", restore_to="/ds/crm.vmdk", full=None,
            options=RestoreOptions(), roots=("/ds",), mode=0o600,
            reserved=0, records="", datastores="", catalog="", catalog_max_age=3600.0, targets=(),
        )  # fmt: skip
        worker = self.workers.start(order, log=self.folder / "crm.log")
        os.close(fd)
        return worker

    def end(self, worker: Worker) -> str:
        assert select.select([worker.pidfd], [], [], PATIENCE)[0], "the worker did not end"
        [(ended, how)] = self.workers.reap()
        assert ended is worker
        worker.close()
        return how

    def status(self) -> JobStatus | None:
        return read_status(self.folder / "crm.status")

    def until_begun(self) -> None:
        end = time.monotonic() + PATIENCE
        while (status := self.status()) is None or status.pid is None:
            assert time.monotonic() < end, "the worker did not begin"
            time.sleep(0.01)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    for worker in yard.workers.all():
        yard.workers.kill(worker.job)
        yard.end(worker)


def test_the_lock_lives_in_the_worker_alone(yard: Yard) -> None:
    worker = yard.start("sleep=60")
    assert lock_is_held(yard.lock)
    yard.until_begun()
    yard.workers.kill("crm")
    assert "killed by signal 9 (perhaps out of memory)" in yard.end(worker)
    assert not lock_is_held(yard.lock)


def test_a_good_end(yard: Yard) -> None:
    worker = yard.start("sleep=0")
    assert "exit code 0" in yard.end(worker)
    status = yard.status()
    assert status is not None
    assert status.outcome is not None
    assert len(yard.workers) == 0


def test_nobody_has_ended_yet(yard: Yard) -> None:
    yard.start("sleep=60")
    assert yard.workers.reap() == []
    assert len(yard.workers) == 1


def test_stop_is_asked_once(yard: Yard) -> None:
    worker = yard.start("sleep=60")
    yard.until_begun()
    yard.workers.stop("crm")
    yard.workers.stop("crm")
    assert worker.stop_asked
    yard.end(worker)
    status = yard.status()
    assert status is not None
    assert status.outcome is not None
    assert status.outcome.result.value == "stopped"


def test_a_traceback_goes_to_the_jobs_log(yard: Yard) -> None:
    yard.workers = Workers([sys.executable, "-c", "raise SystemExit('on standard error')"])
    worker = yard.start("x")
    assert "exit code 1" in yard.end(worker)
    assert "on standard error" in (yard.folder / "crm.log").read_text()


def test_no_such_program(yard: Yard) -> None:
    yard.workers = Workers(["/no/such/program"])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file"):
        yard.start("x")
    assert len(yard.workers) == 0
    assert len(os.listdir("/proc/self/fd")) == before + 1  # the test's own lock


def test_nothing_else_is_inherited(yard: Yard, tmp_path: Path) -> None:
    listing = tmp_path / "fds"
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    program = f"import os; open({str(listing)!r}, 'w').write(' '.join(os.listdir('/proc/self/fd')))"
    yard.workers = Workers([sys.executable, "-c", program])
    yard.end(yard.start("x"))
    os.close(secret)
    # 0, 1, 2, the lock, and the two of the listing itself.
    assert len(listing.read_text().split()) <= 6


class TestAdoption:
    def test_by_pid_and_time(self, yard: Yard) -> None:
        worker = yard.start("sleep=60")
        yard.until_begun()
        status = yard.status()
        assert status is not None
        second = Workers(["unused"])
        adopted = second.adopt("crm", attempt=1, pid=status.pid, started_at=status.started_at)
        assert adopted is not None
        assert second.adopt("crm", attempt=1, pid=status.pid, started_at=status.started_at) is None
        second.stop("crm")
        yard.end(worker)
        assert [how for _, how in second.reap()] == ["ended without an outcome"]
        adopted.close()

    def test_a_pid_that_was_given_to_another_is_not_believed(self) -> None:
        with subprocess.Popen(["sleep", "60"]) as other:
            workers = Workers(["unused"])
            assert workers.adopt("crm", attempt=1, pid=other.pid, started_at=time.time() - 3600) is None
            assert workers.adopt("crm", attempt=1, pid=None, started_at=time.time()) is None
            other.send_signal(signal.SIGKILL)

    def test_a_pid_that_is_gone(self) -> None:
        assert Workers(["unused"]).adopt("crm", attempt=1, pid=2**22 - 1, started_at=time.time()) is None
