"""The job's log: stamped lines, one write each, a cap, and no harm from what lies under its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from phd_daemon.spool.job_log import JobLog

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


def test_every_line_is_stamped(tmp_path: Path) -> None:
    path = tmp_path / "crm.log"
    assert JobLog(path).line("accepted from root\nasked at noon")
    assert JobLog(path).line("100% done")
    lines = path.read_text().splitlines()
    assert [re.sub(STAMP, "", line, count=1) for line in lines] == ["accepted from root", "asked at noon", "100% done"]
    assert all(re.match(STAMP, line) for line in lines)


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "crm.log"
    JobLog(path).line("a\x1b[2Jb\r\udcff 5%")
    assert path.read_bytes().endswith(b"a%1B[2Jb%0D%FF 5%\n")


def test_cap_leaves_one_mark_and_the_outcome(tmp_path: Path) -> None:
    path = tmp_path / "crm.log"
    log = JobLog(path, cap=400)
    for _ in range(50):
        log.line("x" * 30)
    log.line("failed: disk full", past_cap=True)
    text = path.read_text()
    assert text.count("log truncated") == 1
    assert text.endswith("failed: disk full\n")
    assert len(text) < 600


def test_a_line_longer_than_the_room_left_still_leaves_one_mark(tmp_path: Path) -> None:
    path = tmp_path / "crm.log"
    log = JobLog(path, cap=400)
    for _ in range(3):
        log.line("y" * 1000)
    assert path.read_text().count("log truncated") == 1


def test_what_else_lies_under_its_name_is_not_written_to_but_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (tmp_path / "link.log").symlink_to(victim)
    os.link(victim, tmp_path / "hard.log")
    os.mkfifo(tmp_path / "fifo.log")
    reader = os.open(tmp_path / "fifo.log", os.O_RDONLY | os.O_NONBLOCK)
    os.mkfifo(tmp_path / "unread.log")
    for name in ("link", "hard", "fifo", "unread"):
        assert JobLog(tmp_path / f"{name}.log").line(name)
        assert (tmp_path / f"{name}.log").read_text().endswith(f"{name}\n")
        assert (tmp_path / f"{name}.log").is_file()
    assert os.read(reader, 100) == b""
    os.close(reader)
    assert victim.read_text() == "safe"


def test_nowhere_to_write_is_no_error(tmp_path: Path) -> None:
    assert not JobLog(tmp_path / "none" / "c.log").line("x")


def test_a_folder_with_its_name_is_put_aside_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.log" / "inside").mkdir(parents=True)
    assert JobLog(tmp_path / "folder.log").line("x")
    assert "folder.log was a folder of user" in (tmp_path / "folder.log").read_text()
    (aside,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert aside.name.startswith("folder.log.aside-")
    assert (aside / "inside").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_log_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "crm.log"
    path.write_text("mine\n")
    os.chown(path, 65534, 65534)
    with path.open() as theirs:
        assert JobLog(path).line("a name that is no business of theirs")
        assert theirs.read() == "mine\n"
    assert path.stat().st_uid == 0
    assert "mine" not in path.read_text()
