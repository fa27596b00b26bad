"""Records survive, identities tell files apart, and what is newer or damaged is not misread."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.layout import State
from phd_daemon.spool.record import JobRecord, NewerRecord, read_record, write_record
from restore_core.disk.identity import FileIdentity, identity_of
from tests.phd_daemon.spool.desk import TEXT


def record(state: State = State.WAITING) -> JobRecord:
    return JobRecord(
        stem=os.fsdecode(b"caf\xe9\n"),
        state=state,
        identity=FileIdentity(inode=2**63, generation=7),
        size=len(TEXT),
        mtime_ns=2**62,
        not_before_ns=0,
        arrived_ns=5,
        accepted_at=1.5,
        uid=0,
        submitter="root",
        text=TEXT.decode(),
        control=parse_control_file(TEXT),
        next_try=9.25,
        why_waiting="nas1 does not answer",
    )


def test_round_trip(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", record())
    assert read_record(tmp_path / "r.json") == record()
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o600


def test_rejected_has_no_control(tmp_path: Path) -> None:
    rejected = record(State.REJECTED).with_(text="", control=None)
    write_record(tmp_path / "r.json", rejected)
    assert read_record(tmp_path / "r.json") == rejected


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}', '{"version": "x"}', "[" * 50_000, "\xff"])
def test_damaged_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    assert read_record(tmp_path / "r.json") is None
    assert read_record(tmp_path / "absent.json") is None


def test_newer(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"version": 3}))
    assert read_record(tmp_path / "r.json") == NewerRecord(version=3)


def test_a_text_that_no_longer_parses_is_no_record(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", record())
    data = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**data, "text": "nonsense"}))
    assert read_record(tmp_path / "r.json") is None


def test_identity_tells_a_reused_inode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    seen = []
    for _ in range(3):
        with path.open("w") as file:
            seen.append(identity_of(file.fileno()))
        path.unlink()
    if 0 in {identity.generation for identity in seen} and len({identity.inode for identity in seen}) < 3:
        pytest.skip("this file system reuses inode numbers and keeps no generations: files cannot be told apart by them")
    assert not seen[0].same(seen[1])
    assert not seen[1].same(seen[2])


def test_identity_survives_a_rename(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("")
    with path.open() as file:
        before = identity_of(file.fileno())
    os.rename(path, tmp_path / "g")
    with (tmp_path / "g").open() as file:
        assert identity_of(file.fileno()).same(before)
