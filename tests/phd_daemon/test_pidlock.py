"""One daemon and no more; a stale pid is nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.pidlock import PidLock, holder
from restore_core.errors import ExitCode, TryAgainLater


def test_second_is_told_who_is_first(tmp_path: Path) -> None:
    first, second = PidLock(tmp_path / "lock"), PidLock(tmp_path / "lock")
    first.acquire()
    with first:
        with pytest.raises(TryAgainLater, match=f"already running, pid {os.getpid()}") as caught:
            second.acquire()
        assert caught.value.exit_code is ExitCode.TRY_AGAIN
    second.acquire()
    second.release()


def test_a_stale_pid_is_nobody(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    assert holder(tmp_path / "lock") is None
    lock = PidLock(tmp_path / "lock")
    lock.acquire()
    with lock:
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        assert holder(tmp_path / "lock") == os.getpid()
    assert (tmp_path / "lock").read_text() == ""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to("victim")
    with pytest.raises(OSError, match="Too many levels"):
        PidLock(tmp_path / "lock").acquire()
    assert (tmp_path / "victim").read_text() == "precious"


def test_released_twice(tmp_path: Path) -> None:
    lock = PidLock(tmp_path / "lock")
    lock.acquire()
    with lock:
        lock.release()
    assert holder(tmp_path / "lock") is None
