"""A folder as a target: its limit of speed, no room in it, and what its file system cannot do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.backup.run import BackupReporter
from restore_core.capabilities import Capabilities
from restore_core.errors import ExitCode, TargetFull, TargetRefused, TargetUnavailable, remedy_for
from restore_core.targets import local
from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import make_target
from restore_core.targets.remote.connection import Bandwidth
from tests.lab import BLOCK, Lab
from tests.restore_core.targets.conftest import QUICK

FULL = "2026.03.01-A.c/00-C.vmdk.gz-260301-0300.phd"


def test_every_target_says_what_it_can_do_and_is_not_written_to(place: tuple[TargetSpec, Path]) -> None:
    spec, folder = place
    before = (os.listdir(folder), os.stat(folder).st_mtime_ns)
    target = make_target(spec, QUICK)
    list(target.listing())
    can = target.capabilities()
    target.close()
    assert (os.listdir(folder), os.stat(folder).st_mtime_ns) == before
    assert can.resume is True
    assert can.exact_times is True
    if not spec.url.startswith("ftp"):
        assert can.syncs is False or can.free  # a server without OpenSSH's extensions tells neither
    assert can.writable is not False


def test_the_bandwidth_of_a_folder_is_kept_for_reads_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[int] = []
    monkeypatch.setattr(Bandwidth, "spend", lambda _self, count: spent.append(count))
    target = make_target(TargetSpec(name="nfs", url=f"file://{tmp_path}", bandwidth=1 << 20))
    new = target.create(FULL)
    new.write(b"x" * 1000)
    new.publish()
    with target.open(FULL) as source:
        source.read_at(0, 700)
    assert spent == [1000, 700]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_folder_is_no_room_on_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable, "write_all_at", full)
    new = local.LocalTarget(TargetSpec(name="nas", url=f"file://{tmp_path}")).create(FULL)
    with pytest.raises(TargetFull) as caught:
        new.write(b"x")
    new.discard()
    assert caught.value.exit_code is ExitCode.DESTINATION


def test_an_archive_is_refused_before_it_is_begun_where_it_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can = Capabilities(file_system="fuse.rclone", missing=("write into the middle of a file",))
    monkeypatch.setattr(local, "tried", lambda _folder: can)
    for create in (
        lambda: local.LocalTarget(TargetSpec(name="nas", url=f"file://{tmp_path}")).create("a/b.phd"),
        lambda: local.create_local_file(f"{tmp_path}/b.phd"),
    ):
        with pytest.raises(TargetRefused, match=r"fuse\.rclone.*cannot write into the middle") as caught:
            create()
        assert "--vfs-cache-mode writes" in caught.value.remedy
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ESTALE])
def test_what_needs_a_person_is_not_tried_again_and_what_may_heal_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    (tmp_path / "a").mkdir()
    (tmp_path / FULL).parent.mkdir(exist_ok=True)
    (tmp_path / FULL).write_bytes(b"x")
    target = local.LocalTarget(TargetSpec(name="nas", url=f"file://{tmp_path}"))
    new = target.create("a/b.phd")
    again, scandir = [], os.scandir
    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_all_at", fails)
        with pytest.raises(TargetUnavailable) as caught:
            new.write(b"x")
        again.append(caught.value.try_again)
        patched.setattr(os, "open", fails)
        for work in (target.open, lambda path: local.open_local_file(str(tmp_path / path)), target.create):
            with pytest.raises(TargetUnavailable) as caught:
                work(FULL)
            again.append(caught.value.try_again)
        patched.setattr(os, "scandir", lambda path: fails() if path == str(tmp_path) else scandir(path))
        with pytest.raises(TargetUnavailable) as caught:
            list(target.listing())
        again.append(caught.value.try_again)
    new.discard()
    assert again == [code in (errno.EIO, errno.ESTALE)] * 5


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_the_advice_for_a_write_that_failed_is_that_of_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    new = local.LocalTarget(TargetSpec(name="nas", url=f"file://{tmp_path}")).create(FULL)
    monkeypatch.setattr(durable, "write_all_at", fails)
    with pytest.raises(TargetUnavailable) as caught:
        new.write(b"x")
    new.discard()
    assert caught.value.remedy == remedy_for(OSError(code, ""))


def test_a_backup_says_beforehand_that_an_archive_may_become_too_large_for_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path)
    monkeypatch.setattr(local, "of_folder", lambda _path: Capabilities(file_system="vfat", largest_file=BLOCK - 1))
    notes: list[str] = []
    monkeypatch.setattr(BackupReporter, "note", lambda _self, text: notes.append(text))
    lab.backup(b"x" * BLOCK)
    assert any(f"at most {BLOCK - 1} bytes" in note for note in notes)
    notes.clear()
    lab.backup(b"x" * (BLOCK - 1), full=True)
    assert not any("at most" in note for note in notes)
