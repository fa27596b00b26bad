"""What a file system can do is known from its kind, or tried with one small file that goes again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core import capabilities, durable
from restore_core.capabilities import Capabilities, of_folder, tried

Fails = Callable[..., None]


def fails(code: int) -> Fails:
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_what_is_missing_is_said_in_words_and_what_is_not_known_is_not() -> None:
    assert list(Capabilities().remarks()) == []
    words = list(Capabilities(resume=False, writable=False, largest_file=(4 << 30) - 1, missing=("lock a file",)).remarks())
    assert words == [
        "cannot hold disks or archives: no way to lock a file",
        "read-only: nothing can be written to it",
        "no REST: reads from the start, slower",
        "a file has at most 4 GiB",
    ]


def test_a_folder_knows_its_file_system(tmp_path: Path) -> None:
    can = of_folder(str(tmp_path))
    assert can.file_system
    assert can.writable is True
    assert can.free is not None
    assert of_folder("/proc").file_system == "proc"


def try_in(folder: Path) -> Capabilities:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return tried(fd)
    finally:
        os.close(fd)


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system is known."""
    monkeypatch.setattr(capabilities, "_KNOWN", frozenset())


@pytest.mark.usefixtures("strange")
class TestAFileSystemThatIsNotKnown:
    def test_lacks_nothing_if_all_works_and_nothing_stays(self, tmp_path: Path) -> None:
        assert try_in(tmp_path).missing == ()
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("call", "code", "said"),
        [
            ("durable.write_all_at", errno.ESPIPE, "write into the middle of a file"),  # rclone without a cache
            ("os.ftruncate", errno.EPERM, "make a file shorter"),
            ("durable.sync_file", errno.ENOSYS, "make a file durable (fsync)"),
            ("durable.move", errno.EPERM, "rename a file that is open"),
        ],
    )
    def test_names_the_first_thing_it_cannot_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, said: str
    ) -> None:
        monkeypatch.setattr(f"restore_core.capabilities.{call}", fails(code))
        assert try_in(tmp_path).missing == (said,)
        assert os.listdir(tmp_path) == []

    def test_must_keep_what_is_written_into_the_middle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable, "write_all_at", lambda *_: None)  # what fusefat does
        assert try_in(tmp_path).missing == ("write into the middle of a file",)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE])
    def test_is_not_called_unable_because_of_an_error_of_the_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        monkeypatch.setattr(durable, "sync_file", fails(code))
        with pytest.raises(OSError, match=os.strerror(code)):
            try_in(tmp_path)
        assert os.listdir(tmp_path) == []


def test_a_file_system_that_is_known_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_KNOWN", frozenset({of_folder(str(tmp_path)).file_system}))
    monkeypatch.setattr(capabilities, "_missing", fails(errno.EIO))
    assert try_in(tmp_path).missing == ()
