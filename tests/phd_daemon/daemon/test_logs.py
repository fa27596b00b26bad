"""The daemon's own log never fills a disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from phd_daemon.daemon import logs


def test_the_daemons_log_is_turned_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    monkeypatch.setattr(logs, "_FILE_BYTES", 4096)
    try:
        logs.log_to_file(tmp_path / "daemon.log")
        for number in range(500):
            logging.getLogger("x").info("again", extra={"number": number})
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], level = before
        root.setLevel(level)
    found = sorted(tmp_path.iterdir())
    assert [path.name for path in found] == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert all(path.stat().st_size <= 4096 for path in found)
    assert '"number": 499' in found[0].read_text()
