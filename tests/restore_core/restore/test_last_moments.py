"""Neighbours in the moments between the steps of a publication; each was found by stopping a restore at each of its steps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from restore_core import durable
from restore_core.disk.allocation import zero_range
from restore_core.disk.hold import Hold, take_hold
from restore_core.durable import move
from restore_core.errors import DestinationError, DestinationExists, Diverged, PhdError, TryAgainLater
from restore_core.restore import redo, run, writer
from restore_core.restore.existing import ALLOCATING, ExistingDisk
from restore_core.restore.fulls.find import copies_in_catalog
from restore_core.restore.publish import show_descriptor
from restore_core.restore.request import OURS
from tests.lab import BLOCK, Lab
from tests.restore_core.restore.test_neighbours import NAMES, WORK, flat_of, write_and_close
from tests.restore_core.restore.test_refresh import Replica, changed, disk_bytes, two_days


def once(act: Callable[[], None], then: Callable[..., Any]) -> Callable[..., Any]:
    """A function that lets a neighbour act first, the first time."""
    acted: list[bool] = []

    def call(*args: Any, **more: Any) -> Any:
        if not acted:
            acted.append(True)
            act()
        return then(*args, **more)

    return call


@NAMES
@pytest.mark.parametrize("blocks", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_the_new_disk_is_written_and_its_time_set_back_before_it_is_on_record(
    lab: Lab, name: str, blocks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record took the ctime after that write for its own, and "nothing differs" was said of it."""
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, blocks)
    replica.restore(monday)

    def act() -> None:
        before = flat_of(replica).stat()
        write_and_close(flat_of(replica))
        os.utime(flat_of(replica), ns=(before.st_atime_ns, before.st_mtime_ns))

    with monkeypatch.context() as patch:
        shown = once(act, show_descriptor)
        for module in (redo, writer):
            patch.setattr(module, "show_descriptor", shown)
        replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == WORK + new[len(WORK) :]
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new


class Crash(BaseException):
    """The process ends here; a BaseException, so that nothing mends anything on its way out."""


@NAMES
@pytest.mark.parametrize("ours", [False, True])
def test_a_crash_after_it_grew_and_before_the_first_write(lab: Lab, name: str, ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its blocks were the old ones, so it got its name back: with the new size, under the old descriptor."""
    replica = Replica(lab, name)
    old = disk_bytes(1)
    new = changed(old, [3, 11]) + os.urandom(BLOCK)
    monday, tuesday = lab.backup(old), lab.backup(new)
    replica.restore(monday.delta)

    def crash() -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(redo, "zero_range", once(crash, zero_range))
        with pytest.raises(Crash):
            replica.restore(tuesday.delta)
    assert not replica.path.exists()
    replica.restore(tuesday.delta, overwrite=OURS if ours else True)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == sorted({name, flat_of(replica).name})


@NAMES
def test_a_third_file_takes_the_name_of_a_hidden_disk(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The redo file was thrown away, the disk stayed hidden, and "File exists" was the answer to every refresh from then on."""
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, [3, 11])
    replica.restore(monday)
    third = flat_of(replica)

    def put_a_third() -> None:
        third.write_bytes(WORK)

    with monkeypatch.context() as patch:
        patch.setattr(ExistingDisk, "prove_again", once(put_a_third, ExistingDisk.prove_again))
        with pytest.raises(PhdError):
            replica.restore(tuesday)
    for _ in range(2):
        with pytest.raises(DestinationError, match=r"third file.*\.phd-applying"):
            replica.restore(tuesday)
    assert third.read_bytes() == WORK
    third.unlink()
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == sorted({name, flat_of(replica).name})


@NAMES
@pytest.mark.parametrize("blocks", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_the_disk_is_removed_just_before_its_last_step(
    lab: Lab, name: str, blocks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job failed for good: "No such file or directory". With overwrite = true it is a new disk then."""
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, blocks)
    replica.restore(monday)

    def act() -> None:
        for path in {replica.path, flat_of(replica)}:
            path.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Hold, "refuse_if_lost", once(act, Hold.refuse_if_lost))
        replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == sorted({name, flat_of(replica).name})


def test_the_descriptor_is_removed_before_it_is_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job failed for good, with the new disk in its place and no descriptor over it."""
    replica = Replica(lab, "r.vmdk")
    _, monday, new, tuesday = two_days(lab, list(range(20)))
    replica.restore(monday)
    with monkeypatch.context() as patch:
        part = replica.path.with_name("r.vmdk.phd-new")
        patch.setattr(writer, "show_descriptor", once(part.unlink, show_descriptor))
        with pytest.raises(TryAgainLater, match=r"removed r\.vmdk\.phd-new"):
            replica.restore(tuesday)
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


def test_a_copy_by_hard_links_takes_the_lock_file_along(lab: Lab, tmp_path: Path) -> None:
    """`cp -al` while a restore ran that was killed later: every restore was refused until somebody removed the lock file."""
    replica = Replica(lab)
    _, monday, new, tuesday = two_days(lab, [3])
    replica.restore(monday)
    folder = os.open(replica.path.parent, os.O_RDONLY)
    lock, copy = replica.path.with_name("r.img.phd-hold"), tmp_path / "copy"
    with take_hold(folder, "r.img", "r.img") as hold:
        hold.write_record({"doing": "something"})
    os.link(lock, copy)
    with take_hold(folder, "r.img", "r.img") as hold:
        assert hold.record() == {"doing": "something"}
        assert not os.path.samestat(lock.stat(), copy.stat())
        hold.clear_record()
    copy.write_bytes(b"somebody's")
    os.link(copy, lock)
    replica.restore(tuesday)
    os.close(folder)
    assert replica.bytes == new
    assert copy.read_bytes() == b"somebody's"
    assert lab.leftovers() == ["r.img"]


def test_the_folder_is_moved_while_the_disk_is_changed_and_moved_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record went under the other path, and so the replica was a stranger's from then on."""
    replica = Replica(lab)
    _, monday, new, tuesday = two_days(lab, [3, 11])
    replica.restore(monday)
    away = replica.path.parent.with_name("away")
    with monkeypatch.context() as patch:
        patch.setattr(redo, "apply_or_take_back", once(lambda: os.rename(replica.path.parent, away), redo.apply_or_take_back))
        with pytest.raises(TryAgainLater, match="moved"):
            replica.restore(tuesday)
    os.rename(away, replica.path.parent)
    replica.restore(tuesday, overwrite=OURS)
    assert replica.bytes == new


def test_a_crash_while_blocks_are_allocated_leaves_no_lock_file_for_good(lab: Lab) -> None:
    """Its record was only removed by the next refresh that allocates, and the lock file stays while there is a record."""
    replica = Replica(lab)
    _, monday, new, tuesday = two_days(lab, [3, 11])
    replica.restore(monday)
    folder = os.open(replica.path.parent, os.O_RDONLY)
    with take_hold(folder, "r.img", "r.img") as hold:
        hold.write_record({"doing": ALLOCATING, "inode": replica.path.stat().st_ino, "generation": 0})
    os.close(folder)
    assert lab.leftovers() == ["r.img", "r.img.phd-hold"]
    replica.restore(tuesday, overwrite=OURS)
    assert replica.bytes == new
    assert lab.leftovers() == ["r.img"]


@NAMES
@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("blocks", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_the_old_disk_is_written_and_its_time_set_back_after_the_last_look(
    lab: Lab, name: str, ours: bool, blocks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the ctime of the new name that write was not seen: the disk was not exact, or the work was gone with the old file."""
    replica = Replica(lab, name)
    old, monday, new, tuesday = two_days(lab, blocks)
    replica.restore(monday)

    def act() -> None:
        before = flat_of(replica).stat()
        write_and_close(flat_of(replica), 7 * BLOCK)
        os.utime(flat_of(replica), ns=(before.st_atime_ns, before.st_mtime_ns))

    with monkeypatch.context() as patch:
        patch.setattr(Hold, "refuse_if_lost", once(act, Hold.refuse_if_lost))
        if ours:
            with pytest.raises(Diverged):
                replica.restore(tuesday, overwrite=OURS)
            assert flat_of(replica).read_bytes() == old[: 7 * BLOCK] + WORK + old[7 * BLOCK + len(WORK) :]
        else:
            replica.restore(tuesday)
            assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == sorted({name, flat_of(replica).name})


def test_a_crash_just_after_the_descriptor_was_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hidden one, of the disk that was replaced, lay there for good, and the lock file with it."""
    replica = Replica(lab, "r.vmdk")
    _, monday, new, tuesday = two_days(lab, list(range(20)))
    new = new[: -2 * BLOCK]
    tuesday = lab.backup(new).delta
    replica.restore(monday)

    def crash() -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(durable, "move", lambda *args, **more: move_and(crash, *args, **more))
        with pytest.raises(Crash):
            replica.restore(tuesday)
    assert (replica.path.exists(), replica.path.with_name("r.vmdk.phd-applying").exists()) == (True, True)
    replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


def move_and(act: Callable[[], None], *args: Any, **more: Any) -> None:
    """Rename, and act if it was the descriptor that got its name."""
    move(*args, **more)
    if args[1] == "r.vmdk":
        act()


def test_the_hidden_descriptor_of_a_larger_disk_is_not_shown_over_this_one(lab: Lab) -> None:
    """A person removed the lock file of a restore that then died: the old descriptor came back, over the new disk, for good."""
    replica = Replica(lab, "r.vmdk")
    old = disk_bytes(1)
    larger, smaller = lab.backup(old).delta, lab.backup(old[: -2 * BLOCK]).delta
    replica.restore(larger)
    os.rename(replica.path, replica.path.with_name("r.vmdk.phd-applying"))
    os.truncate(flat_of(replica), len(old) - 2 * BLOCK)
    replica.restore(smaller)
    assert flat_of(replica).read_bytes() == old[: -2 * BLOCK]
    assert f"RW {(len(old) - 2 * BLOCK) // 512} " in replica.path.read_text()
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


def test_a_disk_that_appears_just_before_the_survey_is_not_replaced(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without overwrite: it came between the refusals and the survey, was surveyed as if it might be replaced, and was."""
    replica = Replica(lab)
    _, monday, _, _ = two_days(lab, [3])
    replica.path.parent.mkdir()

    def act() -> None:
        replica.path.write_bytes(WORK)

    with monkeypatch.context() as patch:
        patch.setattr(run, "copies_in_catalog", once(act, copies_in_catalog))
        with pytest.raises(DestinationExists):
            replica.restore(monday, overwrite=False)
    assert replica.bytes == WORK
