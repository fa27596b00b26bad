"""What `durable` says of a file that cannot be written: its name, which the kernel leaves out for open files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core import durable


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without room."""

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "write_all", write)


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path: Path) -> None:
    for write in (durable.write_whole, durable.append_line):
        path = tmp_path / write.__name__
        with pytest.raises(OSError, match="No space left") as caught:
            write(path, b"x")
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert [one.name for one in tmp_path.iterdir()] == ["append_line"]


def test_a_part_file_is_named_to_nobody(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        durable.write_whole(tmp_path / "nowhere/file", b"x")
    assert caught.value.filename == str(tmp_path / "nowhere/file")


class TestAFileSystemWithoutRenameNoreplaceAndHardLinks:
    @pytest.fixture(autouse=True, params=[errno.EPERM, errno.EIO, errno.ENOSYS])
    def poor(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(code: int) -> Callable[..., None]:
            def call(*_: object, **__: object) -> None:
                raise OSError(code, os.strerror(code))

            return call

        monkeypatch.setattr(durable, "_renameat2", fails(errno.EINVAL))
        monkeypatch.setattr(os, "link", fails(request.param))

    def test_a_file_gets_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"whole")
        durable.move(tmp_path / "a", tmp_path / "b")
        assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("b", b"whole")]

    @pytest.mark.parametrize("call", ["open", "close", "stat", "rename", "unlink"])
    def test_a_crash_before_any_call_leaves_the_whole_file_and_no_other(self, tmp_path: Path, call: str) -> None:
        (tmp_path / "a").write_bytes(b"whole")
        child = os.fork()
        if not child:
            setattr(os, call, lambda *_, **__: os._exit(9))
            durable.move(tmp_path / "a", tmp_path / "b", durable=False)
            os._exit(0)
        os.waitpid(child, 0)
        (left,) = tmp_path.iterdir()
        assert left.read_bytes() == b"whole"

    @pytest.mark.parametrize("held", [b"", b"another"])
    def test_a_name_that_is_taken_is_never_replaced(self, tmp_path: Path, held: bytes) -> None:
        (tmp_path / "a").write_bytes(b"whole")
        (tmp_path / "b").write_bytes(held)
        with pytest.raises(FileExistsError):
            durable.move(tmp_path / "a", tmp_path / "b")
        assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"whole", held)

    def test_a_rename_that_fails_leaves_the_name_free(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a").write_bytes(b"whole")

        def broken(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "rename", broken)
        with pytest.raises(OSError, match="Input/output"):
            durable.move(tmp_path / "a", tmp_path / "b")
        assert [one.name for one in tmp_path.iterdir()] == ["a"]

    def test_what_another_wrote_into_the_taken_name_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a").write_bytes(b"whole")
        close = os.close

        def close_and_write(fd: int) -> None:
            close(fd)
            (tmp_path / "b").write_bytes(b"another")

        monkeypatch.setattr(os, "close", close_and_write)
        with pytest.raises(FileExistsError):
            durable.move(tmp_path / "a", tmp_path / "b", durable=False)
        monkeypatch.undo()
        assert (tmp_path / "b").read_bytes() == b"another"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_files_are_written_where_there_are_no_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_modes(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fchmod", no_modes)  # fusefat says ENOSYS, vfat EPERM
    durable.write_new(tmp_path / "new", b"x", mode=0o600)
    durable.write_whole(tmp_path / "whole", b"x", like=os.stat(tmp_path / "new"))
    assert (tmp_path / "whole").read_bytes() == b"x"


@pytest.mark.parametrize("foreign", [False, True])
def test_a_part_file_is_taken_where_there_are_no_modes_unless_it_is_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: bool
) -> None:
    def no_modes(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", no_modes)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + foreign)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if foreign:
            with pytest.raises(PermissionError):
                durable.take_part("x", dir_fd=folder)
        else:
            os.close(durable.take_part("x", dir_fd=folder))
    finally:
        os.close(folder)
