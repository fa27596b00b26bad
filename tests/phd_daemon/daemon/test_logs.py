"""The daemon's own log never fills a disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.daemon import logs


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    logs.log_to_file(tmp_path / "daemon.log")
    yield tmp_path / "daemon.log"
    for handler in root.handlers:
        handler.close()
    root.handlers[:], level = before
    root.setLevel(level)


def test_the_daemons_log_is_turned_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    monkeypatch.setattr(logging.getLogger().handlers[0], "maxBytes", 4096)
    for number in range(500):
        logging.getLogger("x").info("again", extra={"number": number})
    found = sorted(tmp_path.iterdir())
    assert [path.name for path in found] == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert all(path.stat().st_size <= 4096 for path in found)
    assert '"number": 499' in log.read_text()


def test_a_log_that_logrotate_has_renamed_is_opened_again_and_says_so(tmp_path: Path, log: Path) -> None:
    logging.getLogger("x").info("before")
    log.rename(tmp_path / "old")
    logs.reopen()
    logging.getLogger("x").info("after")
    assert "after" not in (tmp_path / "old").read_text()
    said = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert said == ["log file opened again", "after"]


def test_a_log_that_cannot_be_opened_again_goes_on_in_the_old_file(tmp_path: Path, log: Path) -> None:
    log.rename(tmp_path / "old")
    log.mkdir()
    logs.reopen()
    logging.getLogger("x").info("after")
    said = [json.loads(line)["event"] for line in (tmp_path / "old").read_text().splitlines()]
    assert said == ["the log file cannot be opened again: the old one is used", "after"]
