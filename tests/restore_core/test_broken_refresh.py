"""A refresh that was interrupted, and what somebody does with the disk before the next restore looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.errors import DestinationError, DestinationExists, Diverged, Stopped
from restore_core.restore import redo
from restore_core.restore.request import OURS
from restore_core.targets.base import ArchiveRef
from tests.lab import Lab
from tests.restore_core.restore.test_refresh import Crash, Replica, two_days

WORK = b"an emergency: a day's work"
NAMES = pytest.mark.parametrize("name", ["r.img", "r.vmdk"])


def flat_of(replica: Replica) -> Path:
    return replica.path.with_name(replica.path.name.replace(".vmdk", "-flat.vmdk"))


def half_applied(replica: Replica, tuesday: ArchiveRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die after the first block of the second day has reached the disk."""
    honest, written = durable.write_all_at, []

    def dies(fd: int, data: bytes, offset: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        if "redo" not in name and "part" not in name:
            written.append(name)
            if len(written) == 2:
                raise Crash
        honest(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all_at", dies)
        with pytest.raises(Crash):
            replica.restore(tuesday, keep=True)


def crash(*_: object) -> None:
    raise Crash


def work_on(disk: Path) -> bytes:
    with disk.open("r+b") as file:
        file.write(WORK)
    return disk.read_bytes()


@NAMES
def test_work_done_after_the_refresh_was_completed_is_diverged(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_applied(replica, tuesday, monkeypatch)
    with pytest.raises(DestinationExists):
        replica.restore(monday, overwrite=False)
    assert flat_of(replica).read_bytes() == new
    mine = work_on(flat_of(replica))
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == mine


@NAMES
def test_a_refresh_that_was_completed_is_still_ours(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(lab, name)
    old, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_applied(replica, tuesday, monkeypatch)
    with pytest.raises(DestinationExists):
        replica.restore(monday, overwrite=False)
    replica.restore(monday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == old


@NAMES
@pytest.mark.parametrize("worked", [False, True])
def test_a_crash_when_the_disk_is_in_its_place_again(lab: Lab, name: str, worked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    honest: Callable[..., int] = redo.show

    def dies(*args: object) -> None:
        honest(*args)
        patch.setattr(redo, "discard", crash)  # nor is anything tidied up
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(redo, "show", dies)
        with pytest.raises(Crash):
            replica.restore(tuesday, keep=True)
    assert replica.path.exists()
    if not worked:
        replica.restore(tuesday, overwrite=OURS)
        assert flat_of(replica).read_bytes() == new
        return
    mine = work_on(flat_of(replica))
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == mine


def test_the_redo_of_another_disk_does_not_make_this_one_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(lab, "r.vmdk")
    _, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_applied(replica, tuesday, monkeypatch)
    os.rename(flat_of(replica).with_name("r-flat.vmdk.phd-applying"), replica.path.with_name("away"))
    flat_of(replica).write_bytes(b"somebody's")
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == b"somebody's"


def test_another_image_in_the_place_of_one_that_is_half_applied(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(lab, "r.img")
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_applied(replica, tuesday, monkeypatch)
    replica.path.write_bytes(old)
    with pytest.raises(DestinationError, match="third file"):  # which of the two is wanted is for a person to say
        replica.restore(tuesday)
    replica.path.with_name("r.img.phd-applying").unlink()
    replica.restore(tuesday)
    assert replica.bytes == new
    assert lab.leftovers() == ["r.img"]


@NAMES
def test_reading_back_in_place_is_not_stopped(lab: Lab, name: str) -> None:
    """No cancel once the disk is set aside: it would stay without its name."""
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)

    def stop() -> None:
        if any(left.endswith(".phd-applying") for left in lab.leftovers()):
            raise Stopped("cancelled")

    replica.restore(tuesday, stop, readback=True)
    assert flat_of(replica).read_bytes() == new
