"""What comes to the door: every kind of bad entry, the writer still at it, and who may."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from pathlib import Path

import pytest

from phd_daemon.spool.access import may_submit, user_name
from phd_daemon.spool.control_file import MAX_BYTES, ControlFile, parse_control_file
from phd_daemon.spool.intake import Accepted, NotYet, Rejected, examine
from restore_core.errors import BadControlFile
from tests.phd_daemon.spool.desk import TEXT


def look(path: Path, submitters: tuple[str, ...] = ("root",)) -> Accepted | Rejected | NotYet:
    return examine(path, validate=lambda text, _who: parse_control_file(text), submitters=submitters)


def refusal(path: Path) -> str:
    found = look(path)
    assert isinstance(found, Rejected)
    assert found.error.remedy
    return found.error.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crm.job"


def test_a_complete_file_is_accepted_with_its_owner(path: Path) -> None:
    path.write_bytes(TEXT)
    found = look(path)
    assert isinstance(found, Accepted)
    assert found.text == TEXT
    assert found.file.uid == os.getuid()
    assert found.file.submitter == user_name(os.getuid())
    assert found.file.identity.inode == path.stat().st_ino


def test_symlink_is_refused_and_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(TEXT)
    path.symlink_to(tmp_path / "real")
    assert "symbolic link" in refusal(path)


def test_hard_link_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(TEXT)
    os.link(tmp_path / "real", path)
    assert "2 names" in refusal(path)


def test_fifo_socket_and_directory_are_no_business_of_the_door(path: Path) -> None:
    os.mkfifo(path)
    assert isinstance(look(path), NotYet)  # and did not hang
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert isinstance(look(path), NotYet)
    path.unlink()
    path.mkdir()
    assert isinstance(look(path), NotYet)


def test_a_gigabyte_is_refused_unread(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)

    def never(_text: bytes, _who: str) -> ControlFile:
        raise AssertionError("it was read")

    found = examine(path, validate=never, submitters=("root",))
    assert isinstance(found, Rejected)
    assert "1073741824 bytes" in found.error.message


def test_size_limit_is_exact(path: Path) -> None:
    path.write_bytes(TEXT + b"#" * (MAX_BYTES - len(TEXT)))
    assert isinstance(look(path), Accepted)
    path.write_bytes(TEXT + b"#" * (MAX_BYTES - len(TEXT) + 1))
    assert "larger than" in refusal(path)


@pytest.mark.parametrize("text", [b"", b"\x00\x01\xff" * 100, b"\xff\xfe", b"delta = 'x'\nnonsense = 1\n", b"delta ="])
def test_bad_text_is_refused(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    assert refusal(path)


def test_a_writer_that_has_it_open_is_waited_for(path: Path) -> None:
    with path.open("wb") as file:
        file.write(TEXT)
        file.flush()
        found = look(path)
        assert isinstance(found, NotYet)
        assert "open for writing" in found.why
    assert isinstance(look(path), Accepted)


def test_a_reader_is_no_writer(path: Path) -> None:
    path.write_bytes(TEXT)
    with path.open("rb"):
        assert isinstance(look(path), Accepted)


def test_gone(path: Path) -> None:
    assert isinstance(look(path), NotYet)


def test_what_the_judge_refuses(path: Path) -> None:
    path.write_bytes(TEXT)

    def judge(_text: bytes, submitter: str) -> ControlFile:
        raise BadControlFile(f"not for {submitter}", remedy="Ask.")

    found = examine(path, validate=judge, submitters=())
    assert isinstance(found, Rejected)
    assert found.error.message == f"not for {user_name(os.getuid())}"


class TestSubmitters:
    def test_own_user_always(self) -> None:
        assert may_submit(os.geteuid(), ())

    def test_by_name_number_and_group(self) -> None:
        other = next((entry for entry in pwd.getpwall() if entry.pw_uid != os.geteuid()), None)
        if other is None:
            pytest.skip("this machine has one user only: nobody else to refuse")
        group = grp.getgrgid(other.pw_gid).gr_name
        assert not may_submit(other.pw_uid, ("nobody-else", "@no-such-group"))
        assert may_submit(other.pw_uid, (other.pw_name,))
        assert may_submit(other.pw_uid, (str(other.pw_uid),))
        assert may_submit(other.pw_uid, (f"@{group}",))

    def test_unknown_user(self) -> None:
        assert user_name(3_999_999) == "3999999"
        assert not may_submit(3_999_999, ("root", "@root"))

    def test_a_strangers_file_is_refused(self, path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away: a stranger's file was not tried")
        path.write_bytes(TEXT)
        os.chown(path, 3_999_999, 0)
        assert "may not submit" in refusal(path)
