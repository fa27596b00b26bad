"""What `durable` says of a file that cannot be written: its name, which the kernel leaves out for open files."""

from __future__ import annotations

import errno
import os
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
