"""The folder of the drills: one at a time, nothing of a killed one stays, and what is kept has an end."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.drill import kept_drills
from phd_daemon.drill.kept_drills import DrillFolder
from restore_core.errors import DestinationError, TryAgainLater
from tests.phd_daemon.drill.a_drill import DRILL

MINUTE = dt.timedelta(minutes=1)


def test_two_drills_do_not_run_at_once(tmp_path: Path) -> None:
    folder = DrillFolder(tmp_path)
    with folder.work(), pytest.raises(TryAgainLater, match="another drill runs"), DrillFolder(tmp_path).work():
        pass
    with folder.work():
        pass


def test_what_a_killed_drill_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "drills" / "work" / "boot"
    left.mkdir(parents=True)
    (left / "overlay0.qcow2").write_bytes(b"x")
    with DrillFolder(tmp_path).work() as work:
        assert list(work.iterdir()) == []
        (work / "more").mkdir()
    assert not (tmp_path / "drills" / "work").exists()


def test_a_drill_is_kept_with_its_picture_and_its_serial_line(tmp_path: Path) -> None:
    folder = DrillFolder(tmp_path)
    with folder.work() as work:
        (work / "screen.png").write_bytes(b"png")
        kept = folder.keep(DRILL, picture=work / "screen.png", serial=b"crm login: ")
    assert folder.last() == kept
    assert (folder.path / kept.picture).read_bytes() == b"png"
    assert (folder.path / kept.serial).read_bytes() == b"crm login: "
    assert [path.stat().st_mode & 0o777 for path in folder.path.glob("2*")] == [0o600] * 3


def test_drills_of_the_same_second_are_two_in_their_order(tmp_path: Path) -> None:
    folder = DrillFolder(tmp_path)
    with folder.work():
        folder.keep(DRILL, picture=None, serial=b"")
        folder.keep(replace(DRILL, vm="NEWER"), picture=None, serial=b"")
    assert [one.vm for one in folder.kept()] == ["CRM", "NEWER"]


def test_old_drills_and_older_pictures_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_drills, "MOST_KEPT", 4)
    monkeypatch.setattr(kept_drills, "MOST_PICTURES", 2)
    folder = DrillFolder(tmp_path)
    with folder.work():
        for number in range(7):
            folder.keep(replace(DRILL, began=DRILL.began + number * MINUTE), picture=None, serial=b"x")
    assert [one.began for one in folder.kept()] == [DRILL.began + number * MINUTE for number in (3, 4, 5, 6)]
    assert len(list(folder.path.glob("*.serial"))) == 2


def test_what_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    folder = DrillFolder(tmp_path)
    with folder.work():
        folder.keep(DRILL, picture=None, serial=b"")
    for name, text in (("29990101T000000Z.json", "{"), ("29990102T000000Z.json", "[]"), ("29990103T000000Z.json", "null")):
        (folder.path / name).write_text(text)
    (folder.path / "29990104T000000Z.json").write_text(json.dumps({**DRILL.document(), "version": 99}))
    assert folder.kept() == [DRILL]
    assert folder.last() == DRILL


def test_without_a_drill_there_is_none(tmp_path: Path) -> None:
    assert DrillFolder(tmp_path).kept() == []
    assert DrillFolder(tmp_path).last() is None


def test_a_state_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(DestinationError, match="state/drills"), DrillFolder(tmp_path / "state").work():
        pass
