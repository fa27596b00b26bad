"""Sessions from start to end, and what a crash at any step leaves: what a guest wrote is never lost, and no disk is a mixture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.operations.instant import qemu_img, session_disks, session_finish, session_server
from phd_daemon.operations.instant.nbd_probe import server_pid
from phd_daemon.operations.instant.session_discard import discard_session
from phd_daemon.operations.instant.session_disks import find_session
from phd_daemon.operations.instant.session_seen import seen_session
from phd_daemon.spool.layout import State
from phd_daemon.spool.session_hints import known_sessions
from restore_core.disk.session_record import (
    FINISHING_SUFFIX,
    OVERLAY_SUFFIX,
    InstantSession,
    SessionDisk,
    SessionState,
    beside,
    read_session,
)
from restore_core.errors import (
    DestinationError,
    DestinationExists,
    DestinationInUse,
    InSession,
    NoSpace,
    PhdError,
    ProgramMissing,
    TryAgainLater,
    UsageError,
)
from restore_core.restore.request import RestoreRequest
from restore_core.restore.run import restore_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import Witness, go_on
from tests.phd_daemon.operations.instant_host import (
    MIB,
    InstantHost,
    guest_is_on,
    guest_writes,
    step_by_step,
    without_backing,
    written,
)
from tests.restore_core.restore.crashes import dies, every_call

BACKUP = bytes(range(256)) * (2 * MIB // 256)
OTHER = bytes(reversed(range(256))) * (MIB // 256)
WRITES = ((0, 64 << 10, 0x11), (MIB, 128 << 10, 0x22))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstantHost]:
    made = InstantHost(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def delta(host: InstantHost) -> ArchiveRef:
    return host.lab.backup(BACKUP).delta


def _flat(host: InstantHost) -> bytes:
    return host.disk("CRM-flat.vmdk").read_bytes()


def test_a_guest_runs_from_its_backup_while_the_server_is_killed_and_ends_on_its_own_disk(tmp_path: Path) -> None:
    host = InstantHost(tmp_path)
    try:
        delta = host.lab.backup(BACKUP).delta
        session = host.start(delta).session
        (disk,) = session.disks
        assert session_server.server_trouble(session) == ""
        assert qemu_img.overlay_info(disk.overlay)["virtual-size"] == len(BACKUP)
        pid = server_pid(Path(session.socket))
        assert pid is not None
        os.kill(pid, 9)
        assert "does not answer" in seen_session(host.config, session).server
        assert host.start(delta).jobs == ()
        guest_writes(disk.overlay, *WRITES)
        host.restore(session)
        host.finish(session)
        assert _flat(host) == written(BACKUP, *WRITES)
        assert server_pid(Path(session.socket)) is None or not Path(session.socket).exists()
    finally:
        host.close()


def test_a_session_of_two_disks_is_finished_as_one(host: InstantHost, delta: ArchiveRef) -> None:
    second = host.lab.backup(OTHER, full=True).delta
    session = host.start(delta, second).session
    assert [path.name for path in sorted(host.spool.folder.glob("*.job"))] == [f"{disk.job}.job" for disk in session.disks]
    for disk in session.disks:
        guest_writes(disk.overlay, *WRITES[:1])
    host.restore(session)
    host.finish(session)
    assert (_flat(host), host.disk("data.img").read_bytes()) == (written(BACKUP, WRITES[0]), written(OTHER, WRITES[0]))
    assert host.names() == {"CRM.vmdk", "CRM-flat.vmdk", "data.img"}
    assert list(known_sessions(host.spool)) == []


def test_a_start_that_is_repeated_goes_on_and_submits_what_is_missing(host: InstantHost, delta: ArchiveRef) -> None:
    first = host.start(delta)
    guest_writes(first.session.disks[0].overlay, *WRITES)
    before = first.session.disks[0].overlay.read_bytes()
    again = host.start(delta)
    assert (again.session, again.jobs) == (first.session, ())
    host.spool.control(first.jobs[0], State.WAITING).rename(host.spool.control(first.jobs[0], State.FAILED))
    assert host.start(delta).jobs == first.jobs
    assert first.session.disks[0].overlay.read_bytes() == before


def test_an_overlay_that_is_gone_or_another_file_is_never_made_anew(host: InstantHost, delta: ArchiveRef) -> None:
    session = host.start(delta).session
    overlay = session.disks[0].overlay
    shutil.copy(overlay, overlay.with_name("copy"))
    overlay.with_name("copy").rename(overlay)
    with pytest.raises(DestinationError, match="another file"):
        host.start(delta)
    overlay.unlink()
    with pytest.raises(DestinationError, match="is gone"):
        host.start(delta)
    assert not overlay.exists()
    assert "its overlay is gone" in " ".join(seen_session(host.config, session).waits)


def test_a_start_is_refused_as_its_restore_would_be(host: InstantHost, delta: ArchiveRef) -> None:
    host.disk().write_bytes(b"someone's")
    with pytest.raises(PhdError):
        host.start(delta)
    host.disk().unlink()
    host.disk("CRM-flat.vmdk").write_bytes(b"someone's")
    with pytest.raises(DestinationExists):
        host.start(delta)
    assert host.names() == {"CRM-flat.vmdk"}


def test_another_backup_of_a_disk_in_a_session_is_refused(host: InstantHost, delta: ArchiveRef) -> None:
    session = host.start(delta).session
    guest_writes(session.disks[0].overlay, *WRITES)
    before = session.disks[0].overlay.read_bytes()
    with pytest.raises(InSession):
        host.start(host.lab.backup(OTHER, full=True).delta)
    assert session.disks[0].overlay.read_bytes() == before
    assert host.now(session) == session


def test_without_qemu_img_it_is_said_what_to_install(host: InstantHost, delta: ArchiveRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    with pytest.raises(ProgramMissing, match="qemu-utils"):
        host.start(delta)
    assert host.names() == set()


def test_a_start_that_crashes_at_any_step_is_begun_again_or_discarded(host: InstantHost, delta: ArchiveRef) -> None:
    def crash(number: int) -> bool:
        died = dies(lambda: host.start(delta), *every_call(), number=number)
        if read_session(beside(host.disk("CRM-flat.vmdk"), ".phd-session")) is None:
            assert host.names() == set()
        if number % 2:
            host.start(delta)
        session = find_session(host.config, str(host.disk())) if "CRM-flat.vmdk.phd-session" in host.names() else None
        if session is not None:
            discard_session(host.config, session)
        for job in host.spool.folder.glob("*.job"):
            job.unlink()
        assert host.names() == set()
        return died

    assert step_by_step(crash) > 8


def test_no_state_says_that_a_server_answers_which_does_not(host: InstantHost, delta: ArchiveRef) -> None:
    session = host.start(delta).session
    for state in SessionState:
        assert "does not answer" in seen_session(host.config, replace(session, state=state)).server, state


@pytest.mark.parametrize("act", [shutil.copytree, shutil.move], ids=["copied", "moved"])
def test_a_record_in_another_folder_ends_no_session(
    host: InstantHost, delta: ArchiveRef, act: Callable[[Path, Path], object]
) -> None:
    session = host.start(delta).session
    host.restore(session)
    guest_writes(session.disks[0].overlay, *WRITES)
    home, away = host.disk().parent, host.disk().parent.with_name("away")
    act(home, away)
    with pytest.raises(DestinationError, match="a copy of that one, or was moved"):
        find_session(host.config, str(away / "CRM.vmdk"))
    request = RestoreRequest(delta=delta, destination=away / "CRM.vmdk")
    with pytest.raises(InSession) as refused:
        restore_delta(request, host.lab.targets, reporter=Witness(), stop=go_on)
    assert str(home) not in refused.value.remedy
    if not home.exists():
        shutil.move(away, home)
    assert find_session(host.config, str(host.disk())).id == session.id
    host.finish(session)
    assert _flat(host) == written(BACKUP, *WRITES)


@pytest.mark.parametrize("suffix", [OVERLAY_SUFFIX, FINISHING_SUFFIX])
def test_an_overlay_whose_record_is_gone_is_not_called_no_session(host: InstantHost, delta: ArchiveRef, suffix: str) -> None:
    session = host.start(delta).session
    session.record.unlink()
    session.disks[0].overlay.rename(beside(session.disks[0].flat, suffix))
    with pytest.raises(DestinationError, match="no record of its session is known here"):
        find_session(host.config, str(host.disk()))


def test_discard_throws_the_overlay_away_and_leaves_the_disk(host: InstantHost, delta: ArchiveRef) -> None:
    session = host.start(delta).session
    guest_writes(session.disks[0].overlay, *WRITES)
    host.restore(session)
    discard_session(host.config, session)
    assert host.names() == {"CRM.vmdk", "CRM-flat.vmdk"}
    assert _flat(host) == BACKUP
    with pytest.raises(UsageError, match="no instant session"):
        find_session(host.config, str(host.disk()))


def test_nothing_is_discarded_or_finished_while_the_guest_is_on(host: InstantHost, delta: ArchiveRef) -> None:
    session = host.start(delta).session
    host.restore(session)
    overlay = session.disks[0].overlay
    with guest_is_on(overlay):
        for act in (lambda: discard_session(host.config, session), lambda: host.finish(session)):
            with pytest.raises(DestinationInUse):
                act()
            assert overlay.exists()
            assert host.now(session) == session
    assert seen_session(host.config, session).disks[0].restored


def test_a_discard_that_crashes_at_any_step_is_given_again(host: InstantHost, delta: ArchiveRef) -> None:
    def crash(number: int) -> bool:
        session = host.start(delta).session
        died = dies(lambda: discard_session(host.config, session), *every_call(), number=number)
        now = host.now(session)
        assert now is None or session.disks[0].overlay.exists() or now.state is SessionState.DISCARDING
        if now is not None:
            discard_session(host.config, now)
        for job in host.spool.folder.glob("*.job"):
            job.unlink()
        assert host.names() == set()
        return died

    assert step_by_step(crash) > 2


def _restored_session(host: InstantHost, delta: ArchiveRef) -> InstantSession:
    session = host.start(delta).session
    guest_writes(session.disks[0].overlay, *WRITES)
    host.restore(session)
    return session


def _clear(host: InstantHost) -> None:
    for path in host.disk().parent.iterdir():
        path.unlink()
    shutil.rmtree(host.spool.receipts)
    host.spool.receipts.mkdir()
    for job in host.spool.folder.glob("instant*"):
        job.unlink()


def _truth(host: InstantHost, session: InstantSession) -> bytes:
    """What the guest would read now: the overlay over the backup, or the disk."""
    now = host.now(session)
    if now is not None and now.state.in_overlay:
        there = [path for path in host.disk().parent.iterdir() if path.name.endswith(".qcow2")]
        assert len(there) == 1, "exactly one overlay, whole"
        base = host.folder / "base.img"
        base.write_bytes(BACKUP)
        qemu_img.commit_overlay(there[0], base)
        return base.read_bytes()
    return _flat(host) if host.disk("CRM-flat.vmdk").exists() else host.disk("CRM-flat.vmdk.phd-applying").read_bytes()


def test_a_finish_that_crashes_at_any_step_loses_nothing_and_goes_on(host: InstantHost, delta: ArchiveRef) -> None:
    def crash(number: int) -> bool:
        session = _restored_session(host, delta)
        died = dies(lambda: host.finish(session), *every_call(), number=number)
        assert _truth(host, session) == written(BACKUP, *WRITES)
        if host.disk("CRM-flat.vmdk").exists() and host.disk().exists():
            assert _flat(host) in (BACKUP, written(BACKUP, *WRITES)), "a disk under its name is no mixture"
        now = host.now(session)
        if now is not None:
            host.finish(now)
        assert _flat(host) == written(BACKUP, *WRITES)
        assert host.names() == {"CRM.vmdk", "CRM-flat.vmdk"}
        _clear(host)
        return died

    assert step_by_step(crash) > 10


def test_a_copy_that_was_killed_half_way_is_made_again(
    host: InstantHost, delta: ArchiveRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _restored_session(host, delta)

    def half(_overlay: Path, disk: Path) -> None:
        with disk.open("r+b") as file:
            file.write(bytes([0x11]) * 1000)
        raise TryAgainLater("killed")

    with monkeypatch.context() as patch:
        patch.setattr(qemu_img, "commit_overlay", half)
        with pytest.raises(TryAgainLater, match="killed"):
            host.finish(session)
    assert not host.disk("CRM-flat.vmdk").exists()
    assert not host.disk().exists()
    now = find_session(host.config, str(host.disk()))
    assert now.state is SessionState.FINISHING
    with pytest.raises(UsageError, match="holds a part"):
        discard_session(host.config, now)
    host.finish(now)
    assert _flat(host) == written(BACKUP, *WRITES)


def test_a_disk_that_somebody_wrote_is_not_finished(host: InstantHost, delta: ArchiveRef) -> None:
    session = _restored_session(host, delta)
    with host.disk("CRM-flat.vmdk").open("r+b") as file:
        file.write(b"somebody's")
    with pytest.raises(DestinationError):
        host.finish(session)
    assert host.now(session) == session
    assert session.disks[0].overlay.exists()


def test_a_guest_that_starts_at_the_last_moment_wins(host: InstantHost, delta: ArchiveRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens the overlay after the record says `finishing`: all names go back, and the session serves on."""
    session = _restored_session(host, delta)
    overlay = session.disks[0].overlay
    honest = session_disks.write_session
    opened: list[int] = []

    def late(*args: object, **more: object) -> None:
        honest(*args, **more)  # type: ignore[arg-type]
        if not opened:
            opened.append(os.open(overlay, os.O_RDWR))

    monkeypatch.setattr(session_finish, "write_session", late)
    with pytest.raises(DestinationInUse):
        host.finish(session)
    os.close(opened[0])
    assert host.now(session) == session
    assert {"CRM.vmdk", "CRM-flat.vmdk", overlay.name} <= host.names()
    host.finish(session)
    assert _flat(host) == written(BACKUP, *WRITES)


def test_an_overlay_with_something_above_it_or_another_size_is_not_finished(host: InstantHost, delta: ArchiveRef) -> None:
    session = _restored_session(host, delta)
    overlay = session.disks[0].overlay
    run = qemu_img._run
    run("", overlay, "snapshot", "-c", "one", without_backing(overlay))
    with pytest.raises(DestinationError, match="snapshots in it"):
        host.finish(session)
    run("", overlay, "snapshot", "-d", "one", without_backing(overlay))
    above = overlay.with_name("above.qcow2")
    run("", overlay, "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", str(overlay), str(above), str(len(BACKUP)))
    with pytest.raises(DestinationError, match="snapshot above it"):
        host.finish(session)
    above.unlink()
    os.link(overlay, overlay.with_name("second"))
    with pytest.raises(DestinationError, match="second name"):
        host.finish(session)
    overlay.with_name("second").unlink()
    assert host.now(session) == session
    host.finish(session)


def test_a_session_is_not_finished_while_its_job_may_still_restore(host: InstantHost, delta: ArchiveRef) -> None:
    """The job would begin after the session, with its `overwrite`, over what the guest wrote."""
    session = _restored_session(host, delta)
    host.spool.control(session.disks[0].job, State.DONE).rename(host.spool.control(session.disks[0].job, State.WAITING))
    with pytest.raises(TryAgainLater, match="is waiting"):
        host.finish(session)
    assert host.now(session) == session


def test_the_overlay_of_a_stranger_is_left_alone(host: InstantHost, delta: ArchiveRef) -> None:
    """A crash in `starting` of two disks; meanwhile somebody put another overlay beside the second."""
    second = host.lab.backup(OTHER, full=True).delta
    number = 1
    while not (host.disk("CRM-flat.vmdk" + OVERLAY_SUFFIX)).exists():
        assert dies(lambda: host.start(delta, second), *every_call(), number=number)
        number += 1
        if host.disk("CRM-flat.vmdk" + OVERLAY_SUFFIX).exists():
            break
        for path in host.disk().parent.iterdir():
            path.unlink()
    stranger = host.disk("data.img" + OVERLAY_SUFFIX)
    stranger.write_bytes(b"a stranger's")
    with pytest.raises(InSession, match="not the overlay of this session"):
        host.start(delta, second)
    assert stranger.read_bytes() == b"a stranger's"


def test_what_the_disk_has_no_room_for_is_refused_before_anything_is_changed(
    host: InstantHost, delta: ArchiveRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _restored_session(host, delta)
    flat = host.disk("CRM-flat.vmdk")
    os.truncate(flat, 0)
    os.truncate(flat, len(BACKUP))  # thin: all of it is a hole
    monkeypatch.setattr("phd_daemon.operations.instant.session_proof.free_bytes", lambda _fd: 4096)
    with pytest.raises(NoSpace):
        host.finish(session)
    assert host.now(session) == session


def test_systemd_runs_the_server_only_where_its_unit_would_find_the_same(
    host: InstantHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit reads the usual settings, and may make a socket in /run/phd alone."""
    log, fake = tmp_path / "log", tmp_path / "systemctl"
    fake.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(session_server, "BOOTED", tmp_path)
    monkeypatch.setattr(session_server, "has_unit", lambda _name: True)
    disk = SessionDisk(path=str(host.disk()), delta="t:b.phd", delta_id="0a", export="e", size=512)
    session = InstantSession(id="0123456789ab", state=SessionState.SERVING, disks=(disk,), began=1.0, socket="/run/phd/none.sock")
    usual = replace(host.config, source=None)
    assert not session_server.by_systemd(host.config, session)
    assert not session_server.by_systemd(usual, replace(session, socket="/tmp/none.sock"))
    assert session_server.by_systemd(usual, session)
    asked = iter(["no answer", ""])
    monkeypatch.setattr(session_server, "server_trouble", lambda _session: next(asked))
    session_server.start_server(usual, session)
    session_server.stop_server(usual, session)
    unit = "phd-serve@0123456789ab.service"
    assert log.read_text().splitlines() == [f"enable --quiet --now {unit}", f"disable --quiet --now {unit}"]
