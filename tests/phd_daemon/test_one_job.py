"""One job is one job: an exception in any step, a special file, a full spool: the loop, the other jobs and the next start go on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.spool.layout import FINAL, State
from tests.proof.daemon import Daemon

STEPS = [
    "phd_daemon.spool.scan:FolderReader.look",
    "phd_daemon.spool.keeper:reconcile",
    "phd_daemon.spool.intake:examine",
    "phd_daemon.spool.intake:accept",
    "phd_daemon.spool.transitions:claim",
    "phd_daemon.spool.transitions:apply",
    "phd_daemon.spool.transitions:end",
    "phd_daemon.spool.keeper:read_status",
    "phd_daemon.spool.keeper:lock_is_held",
    "phd_daemon.spool.keeper:Keeper.worker_ended",
    "phd_daemon.spool.keeper:Keeper.put_back",
    "phd_daemon.daemon.starts:_candidate",
    "phd_daemon.daemon.starts:disk_key",
    "phd_daemon.daemon.starts:work_order",
    "phd_daemon.daemon.children:Workers.start",
    "phd_daemon.daemon.children:open_log",
    "phd_daemon.daemon.service:enter",
    "phd_daemon.daemon.service:drop_part",
    "phd_daemon.spool.purge:ended_at",
]
WITHOUT_A_WORKER = {
    "phd_daemon.daemon.starts:work_order",
    "phd_daemon.daemon.children:Workers.start",
    "phd_daemon.daemon.children:open_log",
}
"""Where no worker can be started three times running, the job has failed."""
QUICK = {"TEST_SETTINGS": "PUT_BACK_SECONDS=0.2 RESCAN_SECONDS=0.5 PURGE_SECONDS=1", "TEST_NO_PAUSE": "1"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, '[targets.t]\nurl = "file:///none"\n', queue="workers = 2")
    yield daemon
    if daemon.alive:
        daemon.end(signal.SIGKILL)


@pytest.mark.parametrize("step", STEPS)
def test_an_exception_in_any_step_for_one_job(daemon: Daemon, step: str) -> None:
    """Each of these ended the daemon with 70, or another job's turn; then the job met the next daemon, which ended, too."""
    daemon.up(environment={**QUICK, "TEST_FAULT": step}, fake=True)
    daemon.drop("bad", "/fake/sleep=0")
    for name in ("a", "z"):
        daemon.drop(name, "/fake/sleep=0")
        assert daemon.ends(name) is State.DONE
    time.sleep(1.0)
    daemon.drop("late", "/fake/sleep=0")
    assert daemon.ends("late") is State.DONE
    assert daemon.alive
    daemon.end()
    assert daemon.process is not None
    assert daemon.process.returncode == 0
    daemon.up(environment=QUICK, fake=True)
    assert daemon.ends("bad") in FINAL
    if step not in WITHOUT_A_WORKER:
        assert daemon.state_of("bad") is State.DONE, daemon.log("bad")


def test_a_job_for_which_no_worker_can_ever_be_started_fails_with_the_reason(daemon: Daemon) -> None:
    daemon.up(environment={**QUICK, "TEST_FAULT": "phd_daemon.daemon.starts:work_order"}, fake=True)
    daemon.drop("bad", "/fake/sleep=0")
    assert daemon.ends("bad") is State.FAILED
    assert "a bug of ours: RuntimeError: planted" in daemon.log("bad")


SPECIAL: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": os.mkdir,
    "socket": lambda path: subprocess.run(["python3", "-c", f"import socket; socket.socket(1).bind({str(path)!r})"], check=True),
    "device": lambda path: os.mknod(path, 0o20600, os.makedev(1, 3)),
    "link to nowhere": lambda path: os.symlink("/nowhere/at/all", path),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_ledger_that_is_no_file_stops_the_jobs_of_rules_alone(daemon: Daemon, kind: str) -> None:
    """A FIFO in its place had the daemon wait for ever for somebody to write into it."""
    SPECIAL[kind](daemon.ledger)
    daemon.up(environment=QUICK, fake=True)
    daemon.drop("auto-one", "/fake/sleep=0")
    daemon.drop("other", "/fake/sleep=0")
    assert daemon.ends("other") is State.DONE
    daemon.until(lambda: "restored.log" in daemon.log("auto-one"), "a reason in its log")
    assert daemon.state_of("auto-one") is State.RUNNING
    daemon.ledger.rename(daemon.ledger.with_suffix(".aside"))
    assert daemon.ends("auto-one", seconds=30) is State.DONE
    assert "auto-one" in daemon.ledger.read_text()


@pytest.mark.parametrize("kind", ["fifo", "folder"])
@pytest.mark.parametrize(
    "place",
    ["vmdks.auto", "state/vmdks.auto.good", "state/replicate.started", "state/passes.jsonl", "state/replicate.lock"],
)
def test_files_of_replication_that_are_no_files(daemon: Daemon, place: str, kind: str) -> None:
    (daemon.folder / "vmdks.auto").write_text("RESTORE:CRM|*|%|CRM.vmdk|ds|-2\n")
    path = daemon.folder / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    SPECIAL[kind](path)
    daemon.up(environment=QUICK, fake=True)
    daemon.until(lambda: '"event": "replication pass"' in daemon.said(), "the end of a pass", seconds=30)
    daemon.drop("other", "/fake/sleep=0")
    assert daemon.ends("other") is State.DONE
    daemon.end()
    assert daemon.process is not None
    assert daemon.process.returncode == 0


@pytest.mark.parametrize("kind", ["fifo", "folder", "link to nowhere"])
def test_entries_of_the_state_folder_that_are_no_files(daemon: Daemon, kind: str) -> None:
    """Accepted again each round, or waited for without end. A job whose lock is no lock waits; all others go on."""
    daemon.up(environment=QUICK, fake=True)
    daemon.end()
    for place in ("crm.json", "erp.lock", "stray.json", "astray.lock"):
        SPECIAL[kind](daemon.spool / ".state" / place)
    daemon.up(environment=QUICK, fake=True)
    for name in ("crm", "erp", "other"):
        daemon.drop(name, "/fake/sleep=0")
        assert daemon.ends(name) is State.DONE, daemon.log(name)
        assert daemon.log(name).count("accepted from") == 1
