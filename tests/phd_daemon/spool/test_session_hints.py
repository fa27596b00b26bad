"""Where the records of sessions are: a hint that is believed only as far as the record says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.spool.layout import Spool
from phd_daemon.spool.session_hints import forget, known_sessions, remember, where_recorded
from restore_core.disk.session_record import InstantSession, SessionDisk, SessionState


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    (tmp_path / "spool" / ".state").mkdir(parents=True)
    return Spool(folder=tmp_path / "spool")


def _session(folder: Path, number: int) -> InstantSession:
    disk = SessionDisk(path=str(folder / f"D{number}.vmdk"), delta="t:a/b.phd", delta_id="0a", export="D", size=512)
    session = InstantSession(id=f"{number:012x}", state=SessionState.SERVING, disks=(disk,), began=float(number), socket="/s")
    session.record.write_bytes(session.to_json())
    return session


def test_sessions_are_found_by_their_hints_the_oldest_first(spool: Spool, tmp_path: Path) -> None:
    second, first = _session(tmp_path, 2), _session(tmp_path, 1)
    for one in (second, first):
        remember(spool, one)
    assert list(known_sessions(spool)) == [first, second]
    assert where_recorded(spool, first.id) == first.record
    forget(spool, first.id)
    assert list(known_sessions(spool)) == [second]


def test_a_hint_to_the_record_of_another_session_says_nothing(spool: Spool, tmp_path: Path) -> None:
    one = _session(tmp_path, 1)
    remember(spool, one)
    (spool.sessions / one.id).rename(spool.sessions / f"{7:012x}")
    assert list(known_sessions(spool)) == []


@pytest.mark.parametrize("text", [b"", b"relative.phd-session\n", b"/etc/shadow\n"])
def test_a_hint_that_names_no_record_says_nothing(spool: Spool, text: bytes) -> None:
    spool.sessions.mkdir()
    (spool.sessions / "0123456789ab").write_bytes(text)
    assert where_recorded(spool, "0123456789ab") is None
    assert where_recorded(spool, "../../x") is None
