"""A disk in an instant session: whoever else would write it is refused, and neither the disk nor an overlay is touched."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from restore_core.disk.session_record import (
    FINISHING_SUFFIX,
    OVERLAY_SUFFIX,
    RECORD_SUFFIX,
    SESSION_SUFFIXES,
    InstantSession,
    SessionClaim,
    SessionDisk,
    SessionState,
    beside,
)
from restore_core.errors import DestinationError, ExitCode, InSession, SourceRefused
from restore_core.restore import extras, part
from restore_core.restore.full import restore_full
from restore_core.restore.preview import plan_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import UUID, Lab, Witness, go_on, request_for

OLD, NEW = b"\x01" * 1_024_000, b"\x02" * 1_024_000
ID = "0123456789ab"


@dataclasses.dataclass
class Place:
    """A disk that was restored, of which a newer backup is in a session."""

    lab: Lab
    path: Path
    delta: ArchiveRef
    full: ArchiveRef

    @property
    def flat(self) -> Path:
        return self.path.with_name("CRM-flat.vmdk")

    def session(self, state: SessionState = SessionState.SERVING, **changes: object) -> InstantSession:
        disk = SessionDisk(path=str(self.path), delta=str(self.delta), delta_id="0a", export="CRM.vmdk", size=len(NEW))
        session = InstantSession(id=ID, state=state, disks=(dataclasses.replace(disk, **changes),), began=1.0, socket="/s")  # type: ignore[arg-type]
        session.record.write_bytes(session.to_json())
        return session

    def everything(self) -> dict[str, bytes]:
        """All files there and their bytes; a lock file, which may stay beside a hidden disk, is none of them."""
        files = (path for path in self.path.parent.iterdir() if path.is_file() and path.suffix != ".phd-hold")
        return {path.name: path.read_bytes() for path in files}


@pytest.fixture
def place(lab: Lab) -> Place:
    first = lab.backup(OLD)
    assert first.full is not None
    path = lab.folder / "out" / "CRM.vmdk"
    lab.restore(first.delta, "CRM.vmdk")
    return Place(lab, path, lab.backup(NEW).delta, first.full)


def _restore(place: Place) -> object:
    return place.lab.restore(place.delta, "CRM.vmdk", overwrite=True)


def _replicate(place: Place) -> object:
    return place.lab.restore(place.delta, "CRM.vmdk", overwrite="ours", records=place.lab.folder)


def _full(place: Place) -> object:
    request = request_for(delta=place.full, destination=place.path, overwrite=True)
    return restore_full(request, place.lab.targets, reporter=Witness(), stop=go_on)


def _recover(place: Place) -> object:
    place.flat.rename(beside(place.flat, ".phd-applying"))
    try:
        return extras.recover_disk(place.path, None, None, go_on)
    finally:
        beside(place.flat, ".phd-applying").rename(place.flat)


def _stub(place: Place) -> object:
    text = place.path.read_bytes()
    place.path.unlink()
    try:
        return extras.write_stub(place.flat)
    finally:
        place.path.write_bytes(text)


def _new(place: Place) -> object:
    return place.lab.restore(place.delta, "CRM.vmdk")


RIVALS = [_new, _replicate, _full, _recover, _stub]


@pytest.mark.parametrize("suffix", SESSION_SUFFIXES)
@pytest.mark.parametrize("rival", RIVALS)
def test_no_rival_touches_a_disk_of_a_session(place: Place, rival: Callable[[Place], object], suffix: str) -> None:
    beside(place.flat, suffix).write_bytes(b"a guest's work")
    before = place.everything()
    with pytest.raises(InSession, match=r"phd instant finish .*CRM\.vmdk") as refused:
        rival(place)
    assert (refused.value.exit_code, refused.value.try_again, refused.value.counts_as_try) == (ExitCode.TRY_AGAIN, True, False)
    assert place.everything() == before


@pytest.mark.parametrize("suffix", SESSION_SUFFIXES)
def test_one_that_may_replace_the_disk_does_not_wait_for_the_end_of_the_session(place: Place, suffix: str) -> None:
    """A job that waited would begin in the minute in which the session is finished, over what the guest wrote."""
    beside(place.flat, suffix).write_bytes(b"a guest's work")
    before = place.everything()
    with pytest.raises(DestinationError, match="does not wait") as refused:
        _restore(place)
    assert not refused.value.try_again
    assert place.everything() == before


@pytest.mark.parametrize("rival", [_new, _stub])
def test_whatever_kind_of_file_has_such_a_name_it_counts(place: Place, rival: Callable[[Place], object]) -> None:
    beside(place.flat, OVERLAY_SUFFIX).symlink_to("/nowhere")
    with pytest.raises(InSession):
        rival(place)


def test_the_guard_is_what_keeps_them_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: without it a restore replaces the disk under a session."""
    beside(place.flat, OVERLAY_SUFFIX).write_bytes(b"a guest's work")
    monkeypatch.setitem(part.held_destination.__wrapped__.__kwdefaults__, "may", lambda _destination: None)  # type: ignore[attr-defined]
    assert _stub(place) == place.path
    with monkeypatch.context() as patch:
        patch.setattr("restore_core.restore.run.refuse_rival", lambda _request: lambda _destination: None)
        _restore(place)
    assert place.flat.read_bytes() == NEW.ljust(place.flat.stat().st_size, b"\0")


def test_the_plan_says_it_too(place: Place) -> None:
    place.session()
    request = request_for(delta=place.delta, destination=place.path, overwrite="ours", records=place.lab.folder)
    refused = plan_delta(request, place.lab.targets, reporter=Witness()).refusals
    assert refused
    assert isinstance(refused[0], InSession)


def _as_its_job(place: Place, claim: SessionClaim, **asked: object) -> object:
    return place.lab.restore(place.delta, "CRM.vmdk", session=claim, overwrite=True, **asked)


def test_the_sessions_own_job_restores_its_disk_and_leaves_the_overlay(place: Place) -> None:
    session = place.session()
    session.disks[0].overlay.write_bytes(b"a guest's work")
    _as_its_job(place, SessionClaim(id=ID, record=session.record))
    assert place.flat.read_bytes()[: len(NEW)] == NEW
    assert session.disks[0].overlay.read_bytes() == b"a guest's work"
    assert session.record.read_bytes() == session.to_json()


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.SERVING])
def test_its_own_job_writes_in_no_other_state(place: Place, state: SessionState) -> None:
    session = place.session(state)
    before = place.everything()
    with pytest.raises(InSession):
        _as_its_job(place, SessionClaim(id=ID, record=session.record))
    assert place.everything() == before


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("fedcba987654", {}),
        (ID, {"delta": "t:another/backup.phd"}),
        (ID, {"path": "/another/CRM.vmdk"}),
    ],
)
def test_a_job_that_only_says_it_is_of_the_session_is_a_rival(place: Place, claim: str, changes: dict[str, object]) -> None:
    record = place.session().record
    text = place.session().to_json()
    for key, value in changes.items():
        text = text.replace(str(getattr(place.session().disks[0], key)).encode(), str(value).encode())
    record.write_bytes(text)
    before = place.everything()
    with pytest.raises(InSession):
        _as_its_job(place, SessionClaim(id=claim, record=record))
    assert place.everything() == before


@pytest.mark.parametrize("record", [None, "gone"])
def test_a_job_whose_session_is_over_leaves_the_disk_to_the_guest(place: Place, record: str | None) -> None:
    """`phd retry` of it, after the session was finished, would have thrown the guest's work away."""
    before = place.everything()
    where = beside(place.flat, RECORD_SUFFIX) if record else None
    with pytest.raises(DestinationError, match="session of this job is over") as refused:
        _as_its_job(place, SessionClaim(id=ID, record=where))
    assert not refused.value.try_again
    assert place.everything() == before


@pytest.mark.parametrize("suffix", [OVERLAY_SUFFIX, FINISHING_SUFFIX])
@pytest.mark.parametrize("name", ["CRM.vmdk", "CRM-flat.vmdk"])
def test_no_backup_is_made_of_a_disk_that_lacks_what_its_guest_wrote(place: Place, suffix: str, name: str) -> None:
    beside(place.flat, suffix).write_bytes(b"a guest's work")
    asked = BackupOptions(asked=Asked(vm="CRM", uuid=UUID), scratch=place.lab.folder)
    with pytest.raises(SourceRefused, match="session"):
        backup(place.path.with_name(name), place.lab.targets["t"], asked, BackupReporter())


def test_a_script_of_a_delta_refuses_it_too(place: Place) -> None:
    beside(place.flat, OVERLAY_SUFFIX).write_bytes(b"a guest's work")
    before = place.everything()
    delta = place.lab.path(place.delta)
    code = subprocess.run(["sh", str(delta), "restore", "--to", str(place.path), "--overwrite"], check=False).returncode
    assert (code, place.everything()) == (ExitCode.TRY_AGAIN, before)
