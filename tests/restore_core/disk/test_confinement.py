"""From a path to an open folder, both ways: the kernel told to follow no link, and folder after folder on an older one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restore_core.disk import confinement
from restore_core.disk.confinement import MADE, above_made, let_go, open_beneath, walk_to
from restore_core.disk.hold import take_hold
from restore_core.errors import DestinationError, DestinationMoved, DestinationOutside


class _OldKernel:
    """A libc on a kernel before 5.6."""

    def syscall(self, *_: object) -> int:
        ctypes.set_errno(38)
        return -1


@pytest.fixture(params=["openat2", "one by one"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs both ways."""
    if request.param == "one by one":
        monkeypatch.setattr(confinement, "_libc", _OldKernel())
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A datastore with a folder in it, a link to that, a link out of it, and a file; open files are counted."""
    store = tmp_path / "volumes" / "A"
    (store / "there" / "deep").mkdir(parents=True)
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (store / "inner").symlink_to("there")
    (store / "out").symlink_to(tmp_path / "outside")
    (store / "up").symlink_to("../..")
    (store / "proc").symlink_to("/proc/self/cwd")
    (store / "file").touch()
    (tmp_path / "volumes" / "alias").symlink_to(store)
    before = len(os.listdir("/proc/self/fd"))
    yield store
    assert len(os.listdir("/proc/self/fd")) == before, "an open folder was left behind"


def found(path: Path, root: Path) -> tuple[Path, tuple[str, ...]]:
    """The deepest folder that was opened, and what is missing."""
    walk = walk_to(path, (root,))
    try:
        return Path(os.readlink(f"/proc/self/fd/{walk.fd}")), walk.missing
    finally:
        os.close(walk.fd)


def test_what_is_there_is_opened(store: Path) -> None:
    assert found(store, store.parent) == (store, ())
    assert found(store / "there" / "deep", store.parent) == (store / "there" / "deep", ())
    assert found(store / "there" / "new" / "newer", store.parent) == (store / "there", ("new", "newer"))


def test_the_datastore_itself_may_be_a_link(store: Path) -> None:
    assert found(store.parent / "alias" / "there", store.parent) == (store / "there", ())


@pytest.mark.parametrize("where", ["inner", "inner/deep", "out", "out/deep", "up/outside", "proc", "there/../../.."])
def test_no_link_below_it_is_followed(store: Path, where: str) -> None:
    if ".." in where:
        # Refused before it comes here; but were it not, nothing above the datastore would be opened by the kernel.
        fd = os.open(store, os.O_RDONLY)
        assert open_beneath(fd, tuple(where.split("/"))) is None
        os.close(fd)
        return
    with pytest.raises(DestinationOutside, match="is a link"):
        walk_to(store / where, (store.parent,))


def test_a_file_is_no_folder(store: Path) -> None:
    with pytest.raises(DestinationError, match="file is not a folder"):
        walk_to(store / "file" / "x", (store.parent,))


def test_a_link_that_comes_in_between_is_not_followed(store: Path) -> None:
    walk = walk_to(store / "new" / "newer", (store.parent,))
    (store / "new").symlink_to(store.parent.parent / "outside")
    with pytest.raises(DestinationOutside):
        walk.make_missing()
    assert os.listdir(store.parent.parent / "outside") == ["deep"]


def test_missing_folders_are_made(store: Path) -> None:
    walk = walk_to(store / "new" / "newer", (store.parent,))
    with open_folder(walk.make_missing()) as fd:
        assert os.listdir(store / "new" / "newer") == [MADE]
        (store / "new" / "theirs").mkdir()
        let_go(fd)
    assert os.listdir(store / "new") == ["theirs"], "taken away, but not what holds something of others"


@contextlib.contextmanager
def open_folder(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def test_a_folder_with_unfinished_files_of_anyone_is_kept_until_the_last_is_gone(store: Path) -> None:
    with open_folder(walk_to(store / "new" / "newer", (store.parent,)).make_missing()) as fd:
        other = store / "new" / "b"
        with open_folder(walk_to(other, (store.parent,)).make_missing()) as second:
            (store / "new" / "newer" / "x.phd-new").touch()
            let_go(fd)
            let_go(second)
            assert sorted(os.listdir(store / "new")) == [MADE, "newer"]
        (store / "new" / "newer" / "x.phd-new").unlink()
        let_go(fd)
    assert not (store / "new").exists()


def test_a_folder_in_which_somebody_works_is_his_for_ever(store: Path) -> None:
    with open_folder(walk_to(store / "new" / "newer", (store.parent,)).make_missing()) as fd:
        (store / "new" / "newer" / "notes.txt").touch()
        let_go(fd)
        (store / "new" / "newer" / "notes.txt").unlink()
        let_go(fd)
    assert os.listdir(store / "new") == ["newer"]
    assert os.listdir(store / "new" / "newer") == []


def test_a_folder_of_the_same_name_that_somebody_else_made_is_not_ours(store: Path) -> None:
    with open_folder(walk_to(store / "new", (store.parent,)).make_missing()) as fd:
        let_go(fd)
        (store / "new").mkdir()
        let_go(fd)
    with open_folder(walk_to(store / "new", (store.parent,)).make_missing()) as fd:
        let_go(fd)
    assert (store / "new").is_dir()


def test_a_folder_that_cannot_be_removed_now_keeps_its_mark(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may not write in the folder above; its daemon lets it go."""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with open_folder(walk_to(store / "new", (store.parent,)).make_missing()) as fd:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rmdir", forbidden)
            let_go(fd)
        assert os.listdir(store / "new") == [MADE]
        with open_folder(above_made(os.dup(fd), str(store))) as above:
            assert os.path.samestat(os.fstat(above), store.stat())
        with open_folder(above_made(os.dup(fd), str(store / "new"))) as above:
            assert os.path.samestat(os.fstat(above), (store / "new").stat()), "nothing above a datastore is opened"
        let_go(fd)
    assert not (store / "new").exists()


def _put(folder: Path) -> None:
    (folder / MADE).touch()


def _copied(folder: Path) -> None:
    folder.rmdir()
    made = folder.with_name("made")
    os.close(walk_to(made, (folder.parent.parent,)).make_missing())
    subprocess.run(["cp", "-a", made, folder], check=True)


def _by_its_guest(folder: Path) -> None:
    (folder / MADE).write_text(f"{folder.stat().st_ino}\n")
    os.chown(folder / MADE, 65534, 65534)


def _given_away(folder: Path) -> None:
    folder.rmdir()
    os.close(walk_to(folder, (folder.parent.parent,)).make_missing())
    os.chown(folder, 65534, 65534)


def _a_second_name(folder: Path) -> None:
    (folder / MADE).write_text(f"{folder.stat().st_ino}\n")
    os.link(folder / MADE, folder.parent / "its")


@pytest.mark.parametrize("put", [_put, _copied, _by_its_guest, _given_away, _a_second_name])
def test_a_folder_with_a_mark_that_no_restore_gave_it_is_never_taken_away(store: Path, put: Callable[[Path], None]) -> None:
    if put in {_by_its_guest, _given_away} and os.geteuid():
        pytest.skip("only root gives files away")
    folder = store / "empty"
    folder.mkdir()
    put(folder)
    with open_folder(walk_to(folder, (store.parent,)).fd) as fd:
        with open_folder(above_made(os.dup(fd), str(store))) as above:
            assert os.path.samestat(os.fstat(above), folder.stat()), "its restore may write in it alone"
        let_go(fd)
    assert os.listdir(folder) == [], "the mark is away, and the folder stays"


def test_neither_a_datastore_nor_what_is_above_it_is_taken_away_for_a_mark_that_was_put_there(store: Path) -> None:
    empty = store.parent / "B"
    empty.mkdir()
    _put(empty)
    _put(store.parent)
    with open_folder(walk_to(empty, (store.parent,)).fd) as fd:
        let_go(fd)
    assert empty.is_dir()


def test_the_mark_goes_when_a_disk_comes_whose_name_looks_like_ours(store: Path) -> None:
    with open_folder(walk_to(store / "new", (store.parent,)).make_missing()) as fd:
        (store / "new" / "old.phd-2.img").touch()
        let_go(fd)
    assert os.listdir(store / "new") == ["old.phd-2.img"]


def test_no_mark_is_put_into_a_folder_behind_a_link_that_came_in_between(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, make = store.parent.parent / "outside", os.mkdir

    def swapped(name: str, mode: int, *, dir_fd: int) -> None:
        make(name, mode, dir_fd=dir_fd)
        (store / name).rename(store / "away")
        (store / name).symlink_to(outside)

    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises((DestinationError, OSError)):
        walk_to(store / "new", (store.parent,)).make_missing()
    assert os.listdir(outside) == ["deep"]


def test_a_folder_that_another_restore_takes_away_meanwhile_is_a_reason_to_try_again(store: Path) -> None:
    """The other one had made it, and failed between our look at it and our first file in it."""
    with open_folder(walk_to(store / "new", (store.parent,)).make_missing()) as fd:
        walk = walk_to(store / "new" / "newer", (store.parent,))
        let_go(fd)
        with pytest.raises(DestinationMoved, match="was removed while it was opened"):
            walk.make_missing()
        with pytest.raises(DestinationMoved, match="was removed while it was opened"):
            take_hold(fd, "x.img", "x.img")


def test_the_kernel_is_asked_first(store: Path, way: str) -> None:
    fd = os.open(store, os.O_RDONLY)
    inner = open_beneath(fd, ("there", "deep"))
    if way == "openat2" and inner is None:
        pytest.skip("this kernel has no openat2 (5.6), or a filter forbids it")
    assert (inner is None) is (way == "one by one")
    for each in filter(None, (fd, inner)):
        os.close(each)
