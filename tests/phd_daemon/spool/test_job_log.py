"""The job's log: stamped lines, one write each, a cap, and no harm from what lies under its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

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


def test_symlink_fifo_and_missing_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("safe")
    (tmp_path / "a.log").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "b.log")
    assert not JobLog(tmp_path / "a.log").line("x")
    assert not JobLog(tmp_path / "b.log").line("x")
    assert not JobLog(tmp_path / "none" / "c.log").line("x")
    assert (tmp_path / "victim").read_text() == "safe"
