"""What a target can do is known without writing to it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.errors import ExitCode, TargetFull
from restore_core.targets import local
from restore_core.targets.base import TargetSpec
from restore_core.targets.capabilities import Capabilities, of_folder
from restore_core.targets.kinds import make_target
from restore_core.targets.remote.connection import Bandwidth
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
    if not spec.url.startswith("sftp"):
        assert can.resume is True
        assert can.exact_times is True
    assert can.writable is not False


def test_what_is_missing_is_said_in_words_and_what_is_not_known_is_not() -> None:
    assert list(Capabilities().remarks()) == []
    words = list(Capabilities(resume=False, writable=False, largest_file=(4 << 30) - 1).remarks())
    assert words == [
        "read-only: backups cannot be made to it",
        "no REST: reads from the start, slower",
        "a file has at most 4 GiB",
    ]


def test_a_folder_knows_its_file_system(tmp_path: Path) -> None:
    can = of_folder(str(tmp_path))
    assert can.file_system
    assert can.writable is True
    assert can.free is not None
    assert of_folder("/proc").file_system == "proc"


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
