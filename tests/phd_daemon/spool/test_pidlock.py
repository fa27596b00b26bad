"""One daemon and no more; a stale pid is nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.spool import locks
from phd_daemon.spool.locks import PidLock, holder
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


def test_a_temporary_one_leaves_no_file(tmp_path: Path) -> None:
    lock, other = (PidLock(tmp_path / "lock", temporary=True) for _ in range(2))
    lock.acquire()
    with lock:
        assert holder(tmp_path / "lock") == os.getpid()
    assert not (tmp_path / "lock").exists()
    other.acquire()
    with other:
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_on_a_file_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one ends between another one's opening of the file and its lock: a third would find a new file, free."""
    first, second = PidLock(tmp_path / "lock", temporary=True), PidLock(tmp_path / "lock")
    first.acquire()
    real = locks._locked

    def ends_meanwhile(fd: int, how: int) -> bool:
        first.__exit__()
        return real(fd, how)

    monkeypatch.setattr(locks, "_locked", ends_meanwhile)
    second.acquire()
    assert os.fstat(second.fileno()).st_ino == (tmp_path / "lock").stat().st_ino
    second.release()
