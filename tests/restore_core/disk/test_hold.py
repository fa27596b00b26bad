"""The lock of a disk: one holder, whatever lies in its place, and a record that a crash does not tear."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.disk.destination import open_destination
from restore_core.disk.hold import holder, take_hold
from restore_core.errors import DestinationError, DestinationHeld, TryAgainLater

NAME = "d.img.phd-hold"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_one_holder_at_a_time(folder: int, tmp_path: Path) -> None:
    with take_hold(folder, "d.img", "d"):
        with pytest.raises(DestinationHeld, match="process") as caught:
            take_hold(folder, "d.img", "d")
        assert not caught.value.counts_as_try
        assert isinstance(holder(folder, "d.img", "d"), DestinationHeld)
        take_hold(folder, "e.img", "e").release()
    assert os.listdir(tmp_path) == []
    assert holder(folder, "d.img", "d") is None


def test_it_dies_with_its_process(folder: int, tmp_path: Path) -> None:
    code = (
        "import os, sys; from restore_core.disk.hold import take_hold;"
        "take_hold(os.open(sys.argv[1], os.O_RDONLY), 'd.img', 'd'); print('held', flush=True); sys.stdin.read(); os._exit(1)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(DestinationHeld):
        take_hold(folder, "d.img", "d")
    child.kill()
    child.communicate()
    take_hold(folder, "d.img", "d").release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("made", ["fifo", "link", "folder"])
def test_what_was_planted_is_refused_and_a_plan_says_so(folder: int, tmp_path: Path, made: str) -> None:
    """A plan had no word of a FIFO there, and the restore was refused."""
    thing, victim = tmp_path / NAME, tmp_path / "victim"
    victim.write_bytes(b"somebody's")
    makers = {"fifo": lambda: os.mkfifo(thing), "link": lambda: thing.symlink_to(victim), "folder": thing.mkdir}
    makers[made]()
    with pytest.raises(DestinationError, match="lock file"):
        take_hold(folder, "d.img", "d")
    refusal = holder(folder, "d.img", "d")
    assert refusal is not None
    assert "lock file" in refusal.message
    assert victim.read_bytes() == b"somebody's"


def test_a_record_outlives_a_torn_one(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second record was written over the first: a crash in between left none, and the first was true by then."""
    hold = take_hold(folder, "d.img", "d")
    hold.write_record({"doing": "first"})

    def torn(fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data[: len(data) // 2], offset)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all_at", torn)
        with pytest.raises(TryAgainLater):
            hold.write_record({"doing": "second"})
    assert hold.record() == {"doing": "first"}
    hold.write_record({"doing": "third"})
    assert hold.record() == {"doing": "third"}
    hold.release()
    assert (tmp_path / NAME).exists(), "it stays while something is under way"
    again = take_hold(folder, "d.img", "d")
    assert again.record() == {"doing": "third"}
    again.clear_record()
    assert again.record() is None
    again.release()
    assert os.listdir(tmp_path) == []


def test_a_record_with_a_descriptor_of_any_size(folder: int) -> None:
    """One of more than 64 KiB could not be read again: after a crash nobody knew which file was which."""
    with take_hold(folder, "d.img", "d") as hold:
        record = {"doing": "replacing", "descriptor": "Ł\udc80" * 100_000}
        hold.write_record(record)
        assert hold.record() == record
        hold.clear_record()


def test_somebody_removes_the_lock_file(folder: int, tmp_path: Path) -> None:
    with take_hold(folder, "d.img", "d") as hold:
        (tmp_path / NAME).unlink()
        with pytest.raises(TryAgainLater, match="lock file"):
            hold.refuse_if_lost()
        (tmp_path / NAME).write_bytes(b"another's")
    assert (tmp_path / NAME).read_bytes() == b"another's", "only our own lock file is removed"


def test_without_room_the_folder_is_held(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.open

    def full(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return honest(path, flags, *args, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        hold = take_hold(folder, "d.img", "d")
    assert hold.fd == -1
    with pytest.raises(DestinationHeld):
        take_hold(folder, "e.img", "e")
    hold.release()
    take_hold(folder, "e.img", "e").release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("letter", ["x", "Ł", "\U0001f4be"])
def test_names_at_the_limit_have_room_for_every_suffix(tmp_path: Path, letter: str) -> None:
    """255 bytes less 14, in characters of 1, 2 and 4 bytes."""
    room = 255 - len(".phd-redo-part") - len(".img")
    name = letter * (room // len(letter.encode())) + ".img"
    with open_destination(tmp_path / name, roots=None, make_folders=False) as destination:
        with take_hold(destination.folder_fd, destination.disk_name, "d"):
            pass
        for each in (destination.part_name, destination.disk_name + ".phd-redo-part", destination.private_name()):
            (tmp_path / each).touch()
    with pytest.raises(DestinationError, match="too long"):
        open_destination(tmp_path / (letter * 4 + name), roots=None, make_folders=False)
