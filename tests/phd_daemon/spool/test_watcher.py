"""The doorbell rings for control files, tells what was renamed into place, and is re-armed when it has gone blind."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers import inotify

from phd_daemon.spool import requests
from phd_daemon.spool.watcher import SpoolWatcher

PATIENCE = 30.0


class Bell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rung = threading.Event()
        self.doorbell = SpoolWatcher(folder, self.rung.set)

    def heard(self) -> bool:
        heard = self.rung.wait(PATIENCE)
        self.rung.clear()
        return heard


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    (tmp_path / "spool").mkdir()
    bell = Bell(tmp_path / "spool")
    assert bell.doorbell.watch()
    yield bell
    bell.doorbell.close()


def test_renamed_from_outside(bell: Bell, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("x")
    os.rename(tmp_path / "new", bell.folder / "crm.job")
    assert bell.heard()
    assert bell.doorbell.take_renamed() == {"crm.job"}
    assert bell.doorbell.take_renamed() == frozenset()


def test_renamed_inside(bell: Bell) -> None:
    (bell.folder / ".crm.tmp").write_text("x")
    os.rename(bell.folder / ".crm.tmp", bell.folder / "crm.job")
    assert bell.heard()
    assert bell.doorbell.take_renamed() == {"crm.job"}


def test_touched_for_a_retry_rings(bell: Bell) -> None:
    (bell.folder / "crm.job").write_text("x")
    assert bell.heard()
    while bell.rung.wait(0.3):  # made and closed: two rings
        bell.rung.clear()
    requests._touch(bell.folder / "crm.job")
    assert bell.heard()


def test_written_in_place_rings_but_is_no_rename(bell: Bell) -> None:
    (bell.folder / "crm.job").write_text("x")
    assert bell.heard()
    assert bell.doorbell.take_renamed() == frozenset()


def test_removed(bell: Bell) -> None:
    (bell.folder / "crm.running").write_text("x")
    assert bell.heard()
    (bell.folder / "crm.running").unlink()
    assert bell.heard()


def test_logs_and_status_files_ring_nothing(bell: Bell) -> None:
    for name in ("crm.log", "crm.status", ".crm.status.abc.tmp"):
        (bell.folder / name).write_text("x")
    os.rename(bell.folder / ".crm.status.abc.tmp", bell.folder / "crm.status")
    (bell.folder / "crm.log").unlink()
    assert not bell.rung.is_set()
    (bell.folder / "last.job").write_text("x")  # events come in order: after this one the others have been seen
    assert bell.heard()
    assert bell.doorbell.take_renamed() == frozenset()


def test_a_folder_made_anew_is_watched_again(bell: Bell, tmp_path: Path) -> None:
    os.rename(bell.folder, tmp_path / "old")
    bell.folder.mkdir()
    assert bell.doorbell.watch()
    (bell.folder / "crm.job").write_text("x")
    assert bell.heard()


def test_removed_folder_rings_and_cannot_be_armed(bell: Bell) -> None:
    bell.folder.rmdir()
    assert bell.heard()
    assert not bell.doorbell.watch()
    bell.folder.mkdir()
    assert bell.doorbell.watch()


def test_a_dead_emitter_is_replaced(bell: Bell) -> None:
    observer = bell.doorbell._observer
    assert observer is not None
    for emitter in observer.emitters:
        emitter.stop()
        emitter.join()
    assert bell.doorbell.watch()
    assert bell.doorbell._observer is not observer
    (bell.folder / "crm.job").write_text("x")
    assert bell.heard()


def test_arming_twice_keeps_the_watch(bell: Bell) -> None:
    before = bell.doorbell._observer
    assert bell.doorbell.watch()
    assert bell.doorbell._observer is before


def test_overflow_rings(bell: Bell) -> None:
    """Watchdog tells no handler that events were lost; it writes this line, and we listen to it."""
    bell.rung.clear()
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
    assert bell.rung.is_set()


def test_watchdog_still_logs_an_overflow_there() -> None:
    assert "overflow" in Path(inotify.__file__).with_name("inotify_c.py").read_text()


def test_without_inotify_there_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(24, "inotify instance limit reached")

    doorbell = SpoolWatcher(tmp_path, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr("phd_daemon.spool.watcher.InotifyObserver", none)
        assert not doorbell.watch()
        assert not doorbell.watch()
    assert len(caplog.records) == 1
    assert doorbell.watch()
    doorbell.close()
