"""Restores where the file system can do less: files get new numbers or times by themselves, or something is missing."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.capabilities import Capabilities, of_open_folder
from restore_core.disk import allocation, scan
from restore_core.errors import DestinationError, Diverged, PhdError
from restore_core.restore import decide, preview, refusals, survey
from restore_core.restore import replace as replacing
from restore_core.restore.run import restore_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, go_on, request_for

OLD = os.urandom(4 * BLOCK)
NEW = os.urandom(4 * BLOCK)
CHANGED = OLD[:BLOCK] + NEW[BLOCK : 2 * BLOCK] + OLD[2 * BLOCK :]


def poor(monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    """The file system of every folder has these facts."""

    def known(fd: int) -> Capabilities:
        return replace(of_open_folder(fd), **facts)  # type: ignore[arg-type]  # tests pass facts by name

    for module in (decide, replacing):
        monkeypatch.setattr(module, "of_open_folder", known)
    monkeypatch.setattr(refusals, "tried", known)


def doors(lab: Lab, delta: ArchiveRef, full: ArchiveRef) -> list[Callable[[], list[PhdError]]]:
    """Everything that can refuse a destination: plan, restore, restore to a folder that is missing, and of a Full."""
    out = lab.folder / "out"
    request = request_for(delta=delta, destination=out / "plan.img")

    def refused(work: Callable[[], object]) -> list[PhdError]:
        with pytest.raises(PhdError) as caught:
            work()
        return [caught.value]

    from restore_core.restore.full import restore_full

    return [
        lambda: list(preview.plan_delta(request, lab.targets, reporter=lab.witness).refusals),
        lambda: refused(lambda: lab.restore(delta, "one.vmdk")),
        lambda: refused(lambda: lab.restore(delta, "missing/folder/one.img")),
        lambda: refused(
            lambda: restore_full(
                request_for(delta=full, destination=out / "full.img"), lab.targets, reporter=lab.witness, stop=go_on
            )
        ),
    ]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"file_system": "fuse.rclone", "missing": ("write into the middle of a file",)}, "cannot write into the middle of a file"),
        ({"file_system": "vfat", "largest_file": 4 * BLOCK - 1}, f"at most {4 * BLOCK - 1}"),
    ],
)
def test_what_the_file_system_cannot_do_is_refused_before_the_work_at_every_door(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, facts: dict[str, object], said: str
) -> None:
    result = lab.backup(OLD)
    assert result.full is not None
    (lab.folder / "out").mkdir()
    poor(monkeypatch, **facts)
    monkeypatch.setattr(durable, "take_part", lambda *_, **__: pytest.fail("the work began"))
    for door in doors(lab, result.delta, result.full):
        found = [error for error in door() if isinstance(error, DestinationError) and said in error.message]
        assert found, said
        assert str(facts["file_system"]) in found[0].message
        assert found[0].remedy
    assert lab.leftovers() == []


def test_a_full_file_system_is_not_called_unable(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> Capabilities:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    delta = lab.backup(OLD).delta
    monkeypatch.setattr(refusals, "tried", full)
    lab.restore(delta)  # recovery must be able to begin


def test_a_disk_is_refreshed_where_its_time_moves_when_it_is_read_for_the_first_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.restore(lab.backup(OLD).delta)
    delta = lab.backup(CHANGED).delta
    poor(monkeypatch, steady_times=False, steady_numbers=False)
    path, read = lab.folder / "out" / "back.img", scan.read_segment
    moved: list[int] = []

    def moves(fd: int, *rest: int) -> object:
        found = read(fd, *rest)
        if not moved:
            moved.append(1)
            os.utime(path)
        return found

    monkeypatch.setattr(survey, "read_segment", moves)
    outcome = lab.restore(delta, overwrite=True)
    assert moved
    assert "new times by itself" in outcome.way
    assert path.read_bytes() == CHANGED
    assert lab.leftovers() == ["back.img"]


@pytest.mark.parametrize("written", [False, True])
def test_whose_a_disk_is_is_read_from_it_where_numbers_are_new_after_a_remount(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    records = lab.folder / "records"
    records.mkdir()
    lab.restore(lab.backup(OLD).delta, records=records)
    delta = lab.backup(CHANGED).delta
    path = lab.folder / "out" / "back.img"
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes()[:-1] + b"\0" if written else path.read_bytes())
    copy.rename(path)  # another number, another time
    poor(monkeypatch, steady_numbers=False)
    if written:
        with pytest.raises(Diverged):
            lab.restore(delta, overwrite="ours", records=records)
    else:
        lab.restore(delta, overwrite="ours", records=records)
        assert path.read_bytes() == CHANGED


def _restore_and_crash(lab: Lab, delta: ArchiveRef, at: int) -> bool:
    """Restore in a child that ends at its rename number `at`; returns whether it came so far."""
    child = os.fork()
    if not child:
        move, count = durable.move, itertools.count()

        def crash(*args: object, **kwargs: object) -> None:
            if next(count) == at:
                os._exit(9)
            move(*args, **kwargs)  # type: ignore[arg-type]  # passes them on

        durable.move = crash
        request = request_for(delta=delta, destination=lab.folder / "out" / "back.img", overwrite=True)
        restore_delta(request, lab.targets, reporter=lab.witness, stop=go_on)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_replacement_is_told_by_names_alone_after_a_crash_at_any_rename(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = lab.backup(OLD).delta, lab.backup(NEW).delta
    poor(monkeypatch, steady_numbers=False)
    out = lab.folder / "out"
    for at in itertools.count():
        lab.restore(first, overwrite=True)
        crashed = _restore_and_crash(lab, second, at)
        disk = out / "back.img"
        if disk.exists():
            assert disk.read_bytes() in (OLD, NEW)
        for name in list(out.iterdir()):  # a remount: every file has another number
            copy = out / "copy"
            copy.write_bytes(name.read_bytes())
            facts = name.stat()
            os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            copy.rename(name)
        lab.restore(second, overwrite=True)
        assert disk.read_bytes() == NEW
        assert lab.leftovers() == ["back.img"]
        if not crashed:
            break
    assert at >= 3


def test_a_disk_grows_where_a_file_cannot_be_made_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_longer(_fd: int, _size: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "disk"
    path.write_bytes(b"x" * 10)
    monkeypatch.setattr(os, "ftruncate", no_longer)
    fd = os.open(path, os.O_RDWR)
    allocation.set_size(fd, 10)
    allocation.set_size(fd, 100)
    os.close(fd)
    assert path.read_bytes() == b"x" * 10 + bytes(90)
