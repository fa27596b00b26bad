"""The record of an instant session: what it says is read back, and no state is left out of the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restore_core.disk.destination import names_for
from restore_core.disk.session_record import (
    SESSION_SUFFIXES,
    InstantSession,
    SessionDisk,
    SessionState,
    beside,
    parse_session,
    read_session,
)
from restore_core.errors import DestinationError

TWO = InstantSession(
    id="0123456789ab",
    state=SessionState.SERVING,
    disks=(
        SessionDisk(path="/d/CRM.vmdk", delta="t:a/b.phd", delta_id="0a", export="CRM.vmdk", size=1 << 20, job="CRM"),
        SessionDisk(
            path="/d/raw.img", delta="t:a/c.phd", delta_id="0a", export="raw.img", size=512, overlay_stamps=(1, 2), disk_inode=4
        ),
    ),
    began=1.5,
    socket="/run/phd/s",
    options=(("overwrite", True),),
)


def test_a_record_is_read_back_as_it_was_written() -> None:
    assert parse_session(TWO.to_json()) == TWO
    assert TWO.record == Path("/d/CRM-flat.vmdk.phd-session")
    assert TWO.disks[1].overlay == Path("/d/raw.img.phd-overlay.qcow2")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"version": 1}', b"\xff", b'{"version": 1, "disks": [], "options": {}}'])
def test_what_is_no_record_is_none(text: bytes) -> None:
    assert parse_session(text) is None


def test_a_record_of_a_newer_version_is_none() -> None:
    data = json.loads(TWO.to_json())
    assert parse_session(json.dumps({**data, "version": 2}).encode()) is None


def test_a_record_that_is_gone_is_none(tmp_path: Path) -> None:
    assert read_session(tmp_path / "D.phd-session") is None
    assert read_session(tmp_path / "no" / "D.phd-session") is None


def test_every_state_follows_from_the_first_and_the_last_ones_end() -> None:
    words = {state.value for state in SessionState}
    reached = {"starting"}
    for _ in SessionState:
        reached |= {word for state in SessionState if state.value in reached for word in state.follow}
    assert reached == words
    assert [state for state in SessionState if not state.follow] == [SessionState.FINISHED, SessionState.DISCARDING]
    assert [state for state in SessionState if state.restores] == [SessionState.SERVING]


def test_a_state_that_cannot_follow_is_refused() -> None:
    assert TWO.to(SessionState.FINISHING).state is SessionState.FINISHING
    with pytest.raises(ValueError, match="cannot become"):
        TWO.to(SessionState.FINISHED)


@pytest.mark.parametrize("suffix", SESSION_SUFFIXES)
def test_no_restore_takes_the_name_of_a_sessions_file_for_a_disk(suffix: str) -> None:
    """A raw image may have any other name: with --overwrite it would have replaced an overlay."""
    with pytest.raises(DestinationError, match="kept for unfinished files"):
        names_for(beside(Path("/d/CRM-flat.vmdk"), suffix), confined=False)
