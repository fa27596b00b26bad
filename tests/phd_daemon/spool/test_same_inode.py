"""File systems that keep no generation of an inode (overlayfs, tmpfs): what is in a file says which request it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.spool import transitions
from tests.phd_daemon.spool.desk import Desk, control


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A spool on an overlay, as in a container."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts an overlay")
    place = tmp_path / "merged"
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    ran = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(place)], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        pytest.skip(f"this machine mounts no overlay: {ran.stderr.strip()}")
    try:
        yield Desk(place / "spool", monkeypatch)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def replace(desk: Desk, name: str, text: bytes, *, when: float | None = None) -> None:
    """`rm` and a new file, which gets the inode number of the old one at once; the same size and, with `when`, the same time."""
    path = desk.folder / name
    before = path.stat().st_ino if path.exists() else 0
    for _ in range(50):
        path.unlink(missing_ok=True)
        path.write_bytes(text)
        if when is not None:
            os.utime(path, (when, when))
        if not before or path.stat().st_ino == before:
            return
    pytest.skip("this file system gives no inode number away again")


def test_a_new_file_under_the_same_name_and_number_is_a_new_request(desk: Desk) -> None:
    """On an overlay the old request ran: the inode was the same, and "the edit changes nothing"."""
    replace(desk, "q.job", control("old"))
    assert [record.stem for record in desk.round().ready] == ["q"]
    replace(desk, "q.job", control("new"))
    (ready,) = desk.round().ready
    assert ready.control is not None
    assert ready.control.restore_to.name == "new.vmdk"
    desk.start("q")
    assert desk.record("q").text == control("new").decode()


def test_also_with_the_same_size_and_time(desk: Desk) -> None:
    replace(desk, "q.job", control("old"), when=1e9)
    desk.round()
    replace(desk, "q.job", control("new"), when=1e9)
    (ready,) = desk.round().ready
    assert ready.control is not None
    assert ready.control.restore_to.name == "new.vmdk"


def test_one_that_comes_between_the_round_and_the_claim_is_not_taken_for_it(desk: Desk) -> None:
    replace(desk, "q.job", control("old"))
    desk.round()
    replace(desk, "q.job", control("new"))
    assert desk.keeper.claim("q") is None
    (ready,) = desk.round().ready
    assert ready.control is not None
    assert ready.control.restore_to.name == "new.vmdk"


def test_the_same_content_is_the_same_request(desk: Desk) -> None:
    replace(desk, "q.job", control("old"))
    desk.round()
    replace(desk, "q.job", control("old"))
    assert [record.stem for record in desk.round().ready] == ["q"]
    assert desk.log("q").count("accepted from") == 1


def test_a_touch_is_no_new_request(desk: Desk) -> None:
    replace(desk, "q.job", control("old"))
    desk.round()
    os.utime(desk.folder / "q.job", (4e9, 4e9))
    desk.round()
    assert desk.record("q").not_before_ns == int(4e18)
    assert desk.log("q").count("accepted from") == 1


def test_an_edit_of_one_that_runs_changes_nothing(desk: Desk) -> None:
    replace(desk, "q.job", control("old"))
    desk.round()
    desk.start("q")
    (desk.folder / "q.running").write_bytes(control("new"))
    assert [record.stem for record in desk.round().live] == ["q"]
    assert "the edit changes nothing" in desk.log("q")
    desk.finish("q")
    desk.round()
    assert desk.names() == ["q.done"]


def test_held_and_released_it_is_the_same(desk: Desk) -> None:
    replace(desk, "q.job", control("old"))
    desk.round()
    desk.mv("q.job", "q.held")
    desk.round()
    desk.mv("q.held", "q.job")
    assert [record.stem for record in desk.round().ready] == ["q"]
    assert desk.log("q").count("accepted from") == 1


def test_one_that_comes_while_a_change_of_the_old_one_is_noted_is_a_new_request(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the old one had changed; the record took the identity of the new one, whose request was lost as an edit."""
    replace(desk, "q.job", control("old"))
    assert desk.round().ready
    os.utime(desk.folder / "q.job", (1e9, 1e9))
    note, came = transitions._text, list[Path]()

    def text(path: Path) -> bytes | None:
        if not came:
            came.append(path)
            replace(desk, "q.job", control("new"))
        return note(path)

    monkeypatch.setattr(transitions, "_text", text)
    desk.round()
    assert came
    (ready,) = desk.round().ready
    assert ready.control is not None
    assert ready.control.restore_to.name == "new.vmdk"
