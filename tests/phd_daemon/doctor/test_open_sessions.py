"""What the doctor says of instant sessions: it names them, and never proposes to delete anything of theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.doctor import leftovers
from phd_daemon.doctor.finding import Finding
from phd_daemon.doctor.open_sessions import unserved
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.session_hints import remember
from restore_core.disk.session_record import FINISHING_SUFFIX, OVERLAY_SUFFIX, InstantSession, SessionDisk, SessionState, beside

NOW = 100 * leftovers.DAY


def _found(folder: Path, *, began: float, record: bool = True, hidden: bool = False) -> tuple[Finding, ...]:
    flat = folder / "CRM-flat.vmdk"
    disk = SessionDisk(path=str(folder / "CRM.vmdk"), delta="t:a/b.phd", delta_id="0a", export="CRM.vmdk", size=512)
    session = InstantSession(id="0123456789ab", state=SessionState.FINISHING, disks=(disk,), began=began, socket="/s")
    names = [beside(flat, OVERLAY_SUFFIX), beside(flat, FINISHING_SUFFIX)]
    names += [folder / "CRM.vmdk.phd-applying", beside(flat, ".phd-applying"), beside(flat, ".phd-new")] if hidden else []
    if record:
        session.record.write_bytes(session.to_json())
        names.append(session.record)
    for name in names:
        name.write_bytes(name.read_bytes() if name.exists() else b"a guest's work")
        os.utime(name, (1.0, 1.0))
    return leftovers.examine([folder], owned=(), now=NOW).findings


def test_a_session_of_today_is_no_finding(tmp_path: Path) -> None:
    assert _found(tmp_path, began=NOW - 10) == ()


def test_an_old_session_is_named_once_and_what_it_needs_is_no_leftover(tmp_path: Path) -> None:
    (one,) = _found(tmp_path, began=1.0, hidden=True)
    assert one.check == "session-open"
    assert "99 days ago" in one.what
    assert "phd instant finish" in one.mend


def test_an_overlay_without_a_record_is_never_called_a_leftover(tmp_path: Path) -> None:
    found = _found(tmp_path, began=1.0, record=False)
    assert [one.check for one in found] == ["overlay-without-record"] * 2
    assert all(one.mend.startswith("Do not delete it") for one in found)


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "CRM-flat.vmdk.phd-session").write_bytes(b"?")
    (one,) = leftovers.examine([tmp_path], owned=(), now=NOW).findings
    assert one.check == "session-unreadable"


@pytest.mark.parametrize("name", ["CRM-flat.vmdk.phd-session", "CRM-flat.vmdk.phd-overlay.qcow2"])
def test_a_file_of_a_session_is_never_stale(tmp_path: Path, name: str) -> None:
    assert not leftovers.is_stale(leftovers.Leftover(path=tmp_path / name, size=1, mtime=0.0), (), NOW)


def test_a_session_that_nobody_serves_and_an_overlay_that_is_gone_are_named(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path / "spool")
    spool.state_folder.mkdir(parents=True)
    overlay = beside(tmp_path / "CRM-flat.vmdk", OVERLAY_SUFFIX)
    overlay.write_bytes(b"a guest's work")
    disk = SessionDisk(
        path=str(tmp_path / "CRM.vmdk"), delta="t:b.phd", delta_id="0a", export="e", size=512, overlay_inode=overlay.stat().st_ino
    )
    session = InstantSession(
        id="0123456789ab", state=SessionState.SERVING, disks=(disk,), began=1.0, socket=str(tmp_path / "none.sock")
    )
    session.record.write_bytes(session.to_json())
    remember(spool, session)
    (one,) = unserved(spool)
    assert (one.check, "does not answer" in one.what) == ("session-server", True)
    overlay.unlink()
    (one,) = unserved(spool)
    assert one.check == "overlay-lost"
