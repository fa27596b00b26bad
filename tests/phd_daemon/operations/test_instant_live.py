"""A session is finished while its guest runs, in a real QEMU: what it wrote is in the disk, whoever is killed at any moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from phd_daemon.cli.main import run
from phd_daemon.operations.instant import session_finish, session_live, session_server
from phd_daemon.operations.instant.guest_monitor import GuestMonitor
from phd_daemon.operations.instant.session_disks import HeldDisk, find_session, write_session
from phd_daemon.operations.instant.session_settle import Keep
from restore_core.disk.destination import HIDDEN_SUFFIX
from restore_core.disk.session_record import FINISHING_SUFFIX, InstantSession, SessionState, beside
from restore_core.errors import DestinationInUse, Diverged, PhdError, TryAgainLater, UsageError
from tests.host import program
from tests.lab import go_on
from tests.phd_daemon.operations.instant_guest import Guest
from tests.phd_daemon.operations.instant_host import MIB, InstantHost, guest_writes, written
from tests.restore_core.restore.crashes import dies, every_call

BACKUP = bytes(range(256)) * (8 * MIB // 256)
WRITES = ((0, 64 << 10, 0x11), (MIB, 128 << 10, 0x22))
LATER = (3 * MIB, 64 << 10, 0x33)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[InstantHost]:
    program("qemu-system-x86_64")
    made = InstantHost(tmp_path)
    yield made
    for session in open_sessions(made):
        session_server.stop_server(made.config, session)
    made.close()


def open_sessions(host: InstantHost) -> list[InstantSession]:
    try:
        return [find_session(host.config, str(host.disk()))]
    except PhdError:
        return []


@pytest.fixture
def session(host: InstantHost) -> InstantSession:
    started = host.start(host.lab.backup(BACKUP).delta).session
    host.restore(started)
    return started


@contextmanager
def guest_of(host: InstantHost, session: InstantSession, *more: str, named: bool = False) -> Iterator[Guest]:
    guest = Guest(session.disks[0].overlay, host.sockets / "qmp", *more, named=named)
    try:
        yield guest
    finally:
        guest.kill()


def finish(host: InstantHost, session: InstantSession, guest: Guest | None, keep: Keep | None = None) -> object:
    qmp = guest.monitor if guest is not None else None
    return session_finish.finish_session(host.config, session, qmp=qmp, keep=keep, stop=go_on)


def flat(host: InstantHost) -> bytes:
    return host.disk("CRM-flat.vmdk").read_bytes()


def copied(host: InstantHost, offset: int, length: int, byte: int) -> bool:
    """Whether a live finish copied this write into the disk, which is hidden meanwhile."""
    return host.disk("CRM-flat.vmdk" + HIDDEN_SUFFIX).read_bytes()[offset:][:length] == bytes([byte]) * length


@pytest.mark.parametrize("named", [False, True])
def test_a_running_guest_goes_over_to_its_disk_and_runs_on(host: InstantHost, session: InstantSession, named: bool) -> None:
    with guest_of(host, session, named=named) as guest:
        guest.writes(*WRITES)
        finish(host, session, guest)
        assert host.names() == {"CRM.vmdk", "CRM-flat.vmdk"}
        guest.writes(LATER)
        assert guest.ask("query-status")["running"] is True  # type: ignore[index]
    assert flat(host) == written(BACKUP, *WRITES, LATER)


def test_both_disks_of_a_running_guest_go_over_as_one(host: InstantHost) -> None:
    session = host.start(host.lab.backup(BACKUP).delta, host.lab.backup(BACKUP[::-1], full=True).delta).session
    host.restore(session)
    second = f"file={session.disks[1].overlay},format=qcow2,if=none,id=d1"
    with guest_of(host, session, "-drive", second, "-device", "virtio-blk-pci,drive=d1") as guest:
        guest.writes(*WRITES)
        guest.name = "d1"
        guest.writes(LATER)
        finish(host, session, guest)
    assert (flat(host), host.disk("data.img").read_bytes()) == (written(BACKUP, *WRITES), written(BACKUP[::-1], LATER))
    assert host.names() == {"CRM.vmdk", "CRM-flat.vmdk", "data.img"}


def test_a_guest_that_was_stopped_stays_stopped_and_it_is_said(
    host: InstantHost, session: InstantSession, capsys: pytest.CaptureFixture[str]
) -> None:
    with guest_of(host, session, "-S") as guest:
        guest.writes(*WRITES)
        config = str(host.folder / "phd.toml")
        assert run(["instant", "finish", str(host.disk()), "--qmp", str(guest.monitor), "--config", config]) == 0
        assert "stands still as before" in capsys.readouterr().out
        assert guest.ask("query-status")["running"] is False  # type: ignore[index]
    assert flat(host) == written(BACKUP, *WRITES)


def test_a_qemu_that_does_not_run_on_the_overlay_is_refused(host: InstantHost, session: InstantSession, tmp_path: Path) -> None:
    other = tmp_path / "other.qcow2"
    subprocess.run([program("qemu-img"), "create", "-q", "-f", "qcow2", str(other), "8M"], check=True)
    guest = Guest(other, host.sockets / "qmp")
    try:
        with pytest.raises(UsageError, match="not open in that QEMU"):
            finish(host, session, guest)
    finally:
        guest.kill()
    assert host.now(session) == session


def test_a_disk_that_qemu_cannot_take_is_given_its_names_back(
    host: InstantHost, session: InstantSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_live, "open_elsewhere", lambda *_: 1)
    with guest_of(host, session) as guest:
        guest.writes(*WRITES)
        with pytest.raises(DestinationInUse):
            finish(host, session, guest)
        assert host.now(session) == session
        assert {"CRM.vmdk", "CRM-flat.vmdk"} <= host.names()
        monkeypatch.undo()
        finish(host, session, guest)
    assert flat(host) == written(BACKUP, *WRITES)


def test_a_snapshot_above_the_overlay_is_refused(host: InstantHost, session: InstantSession) -> None:
    with guest_of(host, session) as guest:
        above = host.disk("above.qcow2")
        guest.ask("blockdev-snapshot-sync", device="d0", **{"snapshot-file": str(above)})
        with pytest.raises(DestinationInUse, match="above it"):
            finish(host, session, guest)
    assert host.now(session) == session


def test_a_guest_that_phd_stopped_and_died_runs_on_after_the_next_finish(
    host: InstantHost, session: InstantSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash came after the record said `finished`, and before `cont`."""
    honest = GuestMonitor.command

    def dying(self: GuestMonitor, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        if name == "cont":
            raise TryAgainLater("phd was killed")
        return honest(self, name, arguments)

    monkeypatch.setattr(GuestMonitor, "command", dying)
    with guest_of(host, session) as guest:
        guest.writes(*WRITES)
        with pytest.raises(TryAgainLater, match="was killed"):
            finish(host, session, guest)
        monkeypatch.setattr(GuestMonitor, "command", honest)
        now = find_session(host.config, str(host.disk()))
        assert now.state is SessionState.FINISHED
        finish(host, now, guest)
        assert guest.ask("query-status")["running"] is True  # type: ignore[index]
    assert flat(host) == written(BACKUP, *WRITES)


def _steps(act: Callable[[int], bool]) -> int:
    """Every third step here; `phd_is_killed` of the proof row has them all."""
    number = 1
    while act(number):
        number += 3
    return number


def test_phd_is_killed_at_every_step_of_a_live_finish(host: InstantHost) -> None:
    """The guest runs on, or stands still; `finish` goes on where it ended, live or with the guest off, and nothing is lost."""
    delta = host.lab.backup(BACKUP).delta
    honest = GuestMonitor.command
    points: list[tuple[ModuleType | type, str]] = [*every_call(), (GuestMonitor, "command")]

    def crash(number: int) -> bool:
        GuestMonitor.command = honest  # type: ignore[method-assign]
        session = host.start(delta).session
        host.restore(session)
        with guest_of(host, session) as guest:
            guest.writes(*WRITES)
            died = dies(lambda: finish(host, session, guest), *points, number=number)
            expected = [*WRITES]
            now = host.now(session)
            if now is not None:
                if number % 2 and now.state is not SessionState.FINISHED:
                    guest.ask("cont")
                    guest.writes(LATER)
                    expected.append(LATER)
                try:
                    finish(host, now, guest)
                except (PhdError, OSError):
                    guest.kill()
                    finish(host, host.now(session) or now, None, Keep.OVERLAY)
        assert flat(host) == written(BACKUP, *expected), number
        assert host.names() == {"CRM.vmdk", "CRM-flat.vmdk"}
        session_server.stop_server(host.config, session)  # a crash after the record was removed leaves it
        for path in host.disk().parent.iterdir():
            path.unlink()
        shutil.rmtree(host.spool.receipts)
        host.spool.receipts.mkdir()
        for job in host.spool.folder.glob("instant*"):
            job.unlink()
        return died

    assert _steps(crash) > 20


def test_qemu_is_killed_while_it_copies_and_what_a_restarted_guest_read_is_what_it_keeps(
    host: InstantHost, session: InstantSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU copied a write that was not flushed, which its overlay lacks. The restarted guest reads the disk's bytes, for good."""

    def lost(*_: object) -> None:
        raise TryAgainLater("phd was killed")

    monkeypatch.setattr(session_live, "_wait_until_ready", lost)
    with guest_of(host, session) as guest:
        guest.writes(*WRITES)
        with pytest.raises(TryAgainLater, match="was killed"):
            finish(host, session, guest)
        guest.writes(LATER, flush=False)
        while not copied(host, *LATER):  # the job may say that all is copied before it has seen what was written last
            assert guest.process.poll() is None
            time.sleep(0.01)
    monkeypatch.undo()
    now = find_session(host.config, str(host.disk()))
    assert now.state is SessionState.FINISHING
    session_server.stop_server(host.config, now)
    with guest_of(host, now) as guest:  # without a server: its header names the hidden disk
        assert guest.reads(*LATER), "the header names the hidden disk, which has it; the overlay does not"
        guest.writes((5 * MIB, 64 << 10, 0x44))
        with pytest.raises((TryAgainLater, DestinationInUse, UsageError)):
            finish(host, now, guest)
    finish(host, host.now(now) or now, None)
    assert flat(host) == written(BACKUP, *WRITES, (5 * MIB, 64 << 10, 0x44), LATER)


def _dies_finished(held: HeldDisk, now: InstantSession) -> None:
    if now.state is SessionState.FINISHED:
        raise OSError(5, "phd was killed")
    write_session(held, now)


@pytest.fixture
def pivoting(host: InstantHost, session: InstantSession, monkeypatch: pytest.MonkeyPatch) -> InstantSession:
    """A session whose record says `pivoting`; phd and QEMU are gone, the guest had gone over to its disk."""
    monkeypatch.setattr(session_live, "write_session", _dies_finished)
    with guest_of(host, session) as guest:
        guest.writes(*WRITES)
        with pytest.raises(PhdError):
            finish(host, session, guest)
    monkeypatch.undo()
    return find_session(host.config, str(host.disk()))


def test_a_guest_that_went_over_is_on_its_disk(host: InstantHost, pivoting: InstantSession) -> None:
    hidden = host.disk("CRM-flat.vmdk.phd-applying")
    with hidden.open("r+b") as file:  # the guest was resumed by hand, and wrote
        file.seek(LATER[0])
        file.write(bytes([LATER[2]]) * LATER[1])
    assert pivoting.state is SessionState.PIVOTING
    finish(host, pivoting, None)
    assert flat(host) == written(BACKUP, *WRITES, LATER)


def test_a_guest_that_went_over_cannot_be_started_on_its_stale_overlay(
    host: InstantHost, session: InstantSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """phd died, the guest was resumed by hand, wrote to its disk, and was switched off; its configuration names the overlay."""
    again = (*WRITES[0][:2], 0x66)
    monkeypatch.setattr(session_live, "write_session", _dies_finished)
    with guest_of(host, session) as guest:
        guest.writes(*WRITES)
        with pytest.raises(PhdError):
            finish(host, session, guest)
        guest.ask("cont")
        guest.writes(again)
    monkeypatch.undo()
    now = find_session(host.config, str(host.disk()))
    assert not now.disks[0].overlay.exists()
    finish(host, now, None)
    assert flat(host) == written(BACKUP, *WRITES, again)


def test_a_guest_that_was_resumed_before_it_went_over_is_on_its_overlay(host: InstantHost, pivoting: InstantSession) -> None:
    guest_writes(beside(pivoting.disks[0].flat, FINISHING_SUFFIX), LATER)
    finish(host, pivoting, None)
    assert flat(host) == written(BACKUP, *WRITES, LATER)


@pytest.mark.parametrize("keep", list(Keep))
def test_only_a_person_can_tell_where_both_were_written(
    host: InstantHost, pivoting: InstantSession, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest_writes(beside(pivoting.disks[0].flat, FINISHING_SUFFIX), LATER)
    monkeypatch.setattr("phd_daemon.operations.instant.session_settle.boot_id", lambda: "another boot")
    with pytest.raises(Diverged, match="--keep"):
        finish(host, pivoting, None)
    assert beside(pivoting.disks[0].flat, FINISHING_SUFFIX).exists()
    finish(host, pivoting, None, keep)
    assert flat(host) == written(BACKUP, *WRITES, *([LATER] if keep is Keep.OVERLAY else []))


def test_after_another_boot_disks_that_are_equal_need_no_person(
    host: InstantHost, pivoting: InstantSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(host.disk("CRM-flat.vmdk.phd-applying"))
    monkeypatch.setattr("phd_daemon.operations.instant.session_settle.boot_id", lambda: "another boot")
    finish(host, pivoting, None)
    assert flat(host) == written(BACKUP, *WRITES)


def test_nothing_is_decided_while_a_qemu_has_the_disk(host: InstantHost, pivoting: InstantSession) -> None:
    fd = os.open(host.disk("CRM-flat.vmdk.phd-applying"), os.O_RDONLY)
    try:
        with pytest.raises(DestinationInUse, match="--qmp"):
            finish(host, pivoting, None)
    finally:
        os.close(fd)
