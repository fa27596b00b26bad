"""The child's side of a job: every end becomes one outcome, durable before the last line of the log."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status, write_status
from phd_daemon.worker.attempt import StopSign, attempt, outcome_line, result_of
from phd_daemon.worker.order import WorkOrder
from restore_core.disk.session_record import InstantSession, SessionDisk, SessionState
from restore_core.errors import ArchiveAbsent, BadArchive, DestinationInUse, ExitCode, NoSpace, PhdError, Stopped, TargetUnavailable
from restore_core.restore.request import PlanSummary, Reporter, RestoreOptions, RestoreOutcome, RestoreRequest, VmxChoice
from restore_core.targets import TargetSet
from restore_core.targets.base import Stop, TargetSpec
from tests.phd_daemon.small_backup import VMX, SmallBackup, small_backup
from tests.servers.line import line_to


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    (folder / ".state").mkdir(parents=True)
    (folder / "crm.running").write_text("")
    return folder


@pytest.fixture
def order(tmp_path: Path, spool: Path) -> WorkOrder:
    datastore = tmp_path / "volumes/A"
    datastore.mkdir(parents=True)
    return WorkOrder(
        job="crm", attempt=1, spool=str(spool), lock_fd=-1, delta="nas1:a/b.phd", restore_to=str(datastore / "CRM.vmdk"), full=None,
        options=RestoreOptions(), roots=(str(tmp_path / "volumes"),),
        mode=0o600, reserved=0, records=str(tmp_path), datastores=str(tmp_path / "datastores.json"),
        catalog=str(tmp_path / "catalog"), catalog_max_age=3600.0, targets=(),
    )  # fmt: skip


def for_backup(order: WorkOrder, backup: SmallBackup) -> WorkOrder:
    return replace(order, delta=str(backup.delta), targets=(backup.target,))


def run_child(order: WorkOrder) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "phd_daemon.worker.attempt"], input=order.to_json(), capture_output=True, check=False
    )


def the_outcome(spool: Path) -> Outcome:
    status = read_status(spool / "crm.status")
    assert status is not None
    assert status.outcome is not None
    return status.outcome


def log_lines(spool: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in (spool / "crm.log").read_text().splitlines()]


def test_a_real_child_restores_the_exact_disk(tmp_path: Path, spool: Path, order: WorkOrder) -> None:
    backup = small_backup(tmp_path / "nas", size=24 << 20)
    ran = run_child(replace(for_backup(order, backup), options=RestoreOptions(vmx=VmxChoice.AS_IS)))
    assert (ran.returncode, ran.stderr) == (0, b"")
    flat = Path(order.restore_to).with_name("CRM-flat.vmdk")
    assert flat.read_bytes() == backup.content
    assert Path(order.restore_to).with_suffix(".vmx").read_bytes() == VMX
    assert the_outcome(spool).result is Result.DONE
    lines = log_lines(spool)
    assert lines[0] == "attempt 1"
    planned = next(line for line in lines if line.startswith("planned: "))
    assert planned.startswith("planned: 96 blocks of 262144 bytes: 64 from the Full, 0 from the Delta, 32 zero, 0 kept")
    assert any(line.startswith("Delta: 100% Full: 100%, 24 mb of 24 mb, at ") for line in lines)
    assert lines[-1].startswith(f"done: {order.restore_to}: 25165824 bytes verified and durable in 00:0")
    status = read_status(spool / "crm.status")
    assert status is not None
    assert status.plan is not None
    assert (status.attempt, status.plan["full_blocks"]) == (1, 64)


def test_what_the_daemon_wrote_into_the_status_stays(tmp_path: Path, spool: Path, order: WorkOrder) -> None:
    known = JobStatus(
        job="crm", state="running", submitter="ron", delta="x", restore_to="y", priority=3, note="by phone", accepted_at=7, tries=2
    )
    write_status(spool / "crm.status", known, durable_now=False)
    run_child(replace(for_backup(order, small_backup(tmp_path / "nas")), attempt=3))
    status = read_status(spool / "crm.status")
    assert status is not None
    assert (status.submitter, status.priority, status.note, status.accepted_at, status.tries) == ("ron", 3, "by phone", 7.0, 2)
    assert the_outcome(spool).attempt == 3


def test_one_flipped_bit_fails_the_job(tmp_path: Path, spool: Path, order: WorkOrder) -> None:
    backup = small_backup(tmp_path / "nas")
    data = bytearray(backup.full_path.read_bytes())
    data[len(data) // 3] ^= 4
    backup.full_path.write_bytes(data)
    assert run_child(replace(for_backup(order, backup), full=str(backup.full))).returncode == ExitCode.BAD_DATA
    assert the_outcome(spool).result is Result.FAILED
    assert list(Path(order.restore_to).parent.iterdir()) == []
    assert log_lines(spool)[-1].startswith("failed: ")
    assert [line for line in log_lines(spool) if line.startswith(("done", "failed", "not this time"))] == [log_lines(spool)[-1]]


def test_an_absent_archive_fails_and_a_silent_target_is_asked_again(tmp_path: Path, spool: Path, order: WorkOrder) -> None:
    backup = small_backup(tmp_path / "nas")
    backup.delta_path.unlink()
    assert run_child(for_backup(order, backup)).returncode == ExitCode.UNAVAILABLE
    assert the_outcome(spool).result is Result.FAILED
    (tmp_path / "nas").rename(tmp_path / "unmounted")
    assert run_child(for_backup(order, backup)).returncode == ExitCode.UNAVAILABLE
    assert the_outcome(spool).result is Result.TRY_AGAIN


def test_control_c_in_the_daemons_terminal_does_not_reach_the_worker(tmp_path: Path, spool: Path, order: WorkOrder) -> None:
    with subprocess.Popen([sys.executable, "-m", "phd_daemon.worker.attempt"], stdin=subprocess.PIPE) as child:
        ignored = 0
        while not ignored & (1 << (signal.SIGINT - 1)):
            status = Path(f"/proc/{child.pid}/status").read_text()
            ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGHUP)
        child.communicate(for_backup(order, small_backup(tmp_path / "nas")).to_json())
    assert child.returncode == 0
    assert the_outcome(spool).result is Result.DONE


def test_the_folder_of_the_receipts_is_made_again(tmp_path: Path, spool: Path, order: WorkOrder) -> None:
    gone = tmp_path / "receipts"
    order = replace(for_backup(order, small_backup(tmp_path / "nas")), records=str(gone))
    assert run_child(order).returncode == 0
    assert len(list(gone.glob("*.json"))) == 1
    assert the_outcome(spool).result is Result.DONE


@pytest.mark.parametrize("scheme", ["sftp", "ftp"])
def test_a_worker_that_waits_for_a_silent_server_ends_when_told(spool: Path, order: WorkOrder, scheme: str) -> None:
    with line_to(0, "silent") as line:
        order = replace(order, targets=(TargetSpec(name="nas1", url=f"{scheme}://u@127.0.0.1:{line.port}/"),))
        with subprocess.Popen(
            [sys.executable, "-m", "phd_daemon.worker.attempt"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as child:
            assert child.stdin is not None
            child.stdin.write(order.to_json())
            child.stdin.close()
            child.stdin = None
            while not line.connections and child.poll() is None:
                time.sleep(0.01)
            (spool / "crm.running").rename(spool / "crm.cancelled")
            child.send_signal(signal.SIGTERM)
            said, _ = child.communicate()
        assert line.connections == 1, "it went on trying"
    assert (child.returncode, said) == (ExitCode.INTERRUPTED, b"")
    assert the_outcome(spool).result is Result.CANCELLED


class Stand:
    """A stand-in for the restore: does what the test says, and remembers what became of the part file."""

    def __init__(self, act: Callable[[Reporter, Stop], None]) -> None:
        self.act = act
        self.kept: bool | None = None

    def __call__(
        self,
        request: RestoreRequest,
        targets: TargetSet,
        *,
        reporter: Reporter,
        stop: Stop,
        keep_part: Callable[[BaseException], bool],
    ) -> RestoreOutcome:
        del targets
        try:
            self.act(reporter, stop)
        except BaseException as error:
            self.kept = keep_part(error)
            raise
        plan = PlanSummary(block_size=1, disk_size=1)
        to = request.destination
        return RestoreOutcome(destination=to, disk_size=1, plan=plan, seconds=61.0, way="new disk", full=None, vmx=None)


def run_stand(order: WorkOrder, act: Callable[[Reporter, Stop], None], stop: StopSign | None = None) -> tuple[Outcome, bool | None]:
    stand = Stand(act)
    return attempt(order, stop or StopSign(Path(order.spool), order.job), restore=stand), stand.kept


def test_sigterm_alone_keeps_the_part_file_and_the_job_waits_again(spool: Path, order: WorkOrder) -> None:
    sign = StopSign(spool, "crm")
    sign.on_sigterm()
    outcome, kept = run_stand(order, lambda _reporter, stop: stop(), sign)
    assert (outcome.result, outcome.exit_code, kept) == (Result.STOPPED, ExitCode.INTERRUPTED, True)
    assert log_lines(spool)[-1] == "stopped: the daemon is stopping; the job waits and will be run again"


@pytest.mark.parametrize("renamed_to", ["crm.cancelled", None])
@pytest.mark.parametrize("told", [False, True])
def test_a_running_file_that_is_gone_cancels(spool: Path, order: WorkOrder, renamed_to: str | None, told: bool) -> None:
    running = spool / "crm.running"
    running.rename(spool / renamed_to) if renamed_to else running.unlink()
    sign = StopSign(spool, "crm")
    if told:
        sign.on_sigterm()
    outcome, kept = run_stand(order, lambda _reporter, stop: stop(), sign)
    assert (outcome.result, kept) == (Result.CANCELLED, False)
    assert log_lines(spool)[-1] == "cancelled: what was written is removed"


def test_why_it_stopped_is_decided_once(spool: Path, order: WorkOrder) -> None:
    """The file goes between the stop and the outcome: the part file was kept, so the outcome must say so."""
    sign = StopSign(spool, "crm")
    sign.on_sigterm()

    def act(_reporter: Reporter, stop: Stop) -> None:
        try:
            stop()
        finally:
            (spool / "crm.running").unlink()
            with pytest.raises(Stopped, match="told to stop"):
                stop()  # another thread asks

    outcome, kept = run_stand(order, act, sign)
    assert (outcome.result, kept) == (Result.STOPPED, True)


def test_a_spool_that_went_away_cancels_nothing(spool: Path) -> None:
    spool.rename(spool.with_name("elsewhere"))
    StopSign(spool, "crm")()


def raising(error: BaseException) -> Callable[[Reporter, Stop], None]:
    def act(_reporter: Reporter, _stop: Stop) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "result", "code", "kept"),
    [
        (BadArchive("x"), Result.FAILED, 65, False),
        (ArchiveAbsent("x"), Result.FAILED, 69, False),
        (TargetUnavailable("x"), Result.TRY_AGAIN, 69, True),
        (DestinationInUse("x"), Result.TRY_AGAIN, 73, True),
        (NoSpace(where="x", needed=2, free=1), Result.FAILED, 73, False),
        (MemoryError(), Result.TRY_AGAIN, 75, True),
        (OSError(errno.EIO, "I/O error"), Result.TRY_AGAIN, 75, True),
        (OSError(errno.ENOSPC, "no space"), Result.FAILED, 73, False),
        (ZeroDivisionError("planted"), Result.FAILED, 70, False),
        (KeyboardInterrupt(), Result.FAILED, 70, False),
    ],
)
def test_every_error_is_one_outcome(order: WorkOrder, error: BaseException, result: Result, code: int, kept: bool) -> None:
    outcome, was_kept = run_stand(order, raising(error))
    assert (outcome.result, outcome.exit_code, was_kept) == (result, code, kept)


def test_our_own_bug_leaves_a_traceback_in_the_log(spool: Path, order: WorkOrder) -> None:
    run_stand(order, raising(ZeroDivisionError("planted")))
    lines = log_lines(spool)
    assert any(line.startswith("Traceback") for line in lines)
    assert lines[-1] == "failed: this is a bug of ours: ZeroDivisionError: planted"


def test_the_reason_and_the_remedy_stand_in_one_line(order: WorkOrder) -> None:
    outcome, _ = run_stand(order, raising(BadArchive("one\ntwo", remedy="Do three.")))
    assert outcome_line(outcome) == "failed: one. two. Do three."


def test_stopped_is_judged_by_why() -> None:
    order = object()
    assert result_of(Stopped("x"), order, cancelled=True)[0] is Result.CANCELLED  # type: ignore[arg-type]  # the order is not looked at
    assert result_of(Stopped("x"), order, cancelled=False)[0] is Result.STOPPED  # type: ignore[arg-type]


def test_the_outcome_is_durable_before_the_log_says_so(spool: Path, order: WorkOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, status: JobStatus, **_: object) -> None:
        if status.outcome is not None:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("phd_daemon.worker.report.write_status", refuse)
    with pytest.raises(OSError, match="broken"):
        run_stand(order, lambda _reporter, _stop: None)
    assert not any(line.startswith("done") for line in log_lines(spool))


def test_a_spool_without_room_for_the_outcome_is_waited_for(spool: Path, order: WorkOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "full")]

    def full_at_first(path: Path, status: JobStatus, *, durable_now: bool) -> None:
        if status.outcome is not None and left:
            raise left.pop()
        write_status(path, status, durable_now=durable_now)

    monkeypatch.setattr("phd_daemon.worker.report.write_status", full_at_first)
    monkeypatch.setattr("phd_daemon.worker.report.ROOM_EVERY", 0.0)
    assert run_stand(order, lambda _reporter, _stop: None)[0].result is Result.DONE
    assert the_outcome(spool).result is Result.DONE
    assert [line for line in log_lines(spool) if "has no room" in line] == [
        "the spool has no room to say how this ended: waiting for some"
    ]


def test_a_spool_without_room_is_not_waited_for_when_told_to_stop(
    spool: Path, order: WorkOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, status: JobStatus, **_: object) -> None:
        if status.outcome is not None:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("phd_daemon.worker.report.write_status", full)
    stop = StopSign(spool, order.job)
    stop.on_sigterm()
    with pytest.raises(OSError, match="full"):
        attempt(order, stop, restore=lambda *_, **__: (_ for _ in ()).throw(ArchiveAbsent("gone")))


def test_a_broken_order_is_our_bug_and_says_so(order: WorkOrder) -> None:
    text = json.dumps({**json.loads(order.to_json()), "version": 99}).encode()
    ran = subprocess.run([sys.executable, "-m", "phd_daemon.worker.attempt"], input=text, capture_output=True, check=False)
    assert ran.returncode != 0
    assert b"work order of another version" in ran.stderr


@pytest.mark.parametrize("error", [PhdError("x"), Stopped("x")])
def test_no_end_without_a_line(spool: Path, order: WorkOrder, error: PhdError) -> None:
    run_stand(order, raising(error))
    assert log_lines(spool)[-1].split(":")[0] in ("failed", "stopped")


def test_the_confined_worker_of_a_session_finds_its_record_and_one_without_it_waits(
    order: WorkOrder, spool: Path, tmp_path: Path
) -> None:
    """Its record lies beside the disk, and it may have been made after the job: both are seen by the worker, not by the daemon."""
    backup = small_backup(tmp_path)
    order = for_backup(order, backup)
    disk = SessionDisk(path=order.restore_to, delta=order.delta, delta_id="0a", export="e", size=512)
    session = InstantSession(id="0123456789ab", state=SessionState.SERVING, disks=(disk,), began=1.0, socket="/s")
    session.record.write_bytes(session.to_json())
    disk.overlay.write_bytes(b"a guest's work")
    run_child(order)
    waits = the_outcome(spool)
    assert (waits.result, waits.exit_code, waits.counted) == (Result.TRY_AGAIN, ExitCode.TRY_AGAIN, False)
    run_child(replace(order, session=session.id, session_record=str(session.record)))
    assert the_outcome(spool).result is Result.DONE
    assert disk.overlay.read_bytes() == b"a guest's work"
