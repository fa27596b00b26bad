"""Backups from the outside: names, stamps, the newest Full, what a Delta holds, what fails and leaves nothing."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from restore_core import naming
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import Effort
from restore_core.archive.index_map import DELTA, FULL, ZERO
from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from restore_core.disk.scan import map_in_order, read_segment
from restore_core.errors import BadArchive, SourceRefused, UsageError
from restore_core.targets import TargetSet
from restore_core.targets.base import TargetSpec
from tests.lab import BLOCK, NIGHT, UUID, Lab

ASKED = Asked(vm="CRM", uuid=UUID)


def test_names(lab: Lab) -> None:
    full = lab.backup(b"a" * BLOCK)
    delta = lab.backup(b"b" * BLOCK)
    assert full.full is not None
    assert full.full.path == f"2026.03.01-CRM.{UUID}/00-disk.img.gz-260301-0301.phd"
    assert full.delta.name == "00-disk.img.delta-2026.03.01-0301-260301-0301.phd"
    assert delta.delta.name == "00-disk.img.delta-2026.03.01-0302-260301-0301.phd"
    assert delta.full is None
    assert delta.header.full_id == full.header.full_id


def test_stamps_are_in_the_zone_of_the_target(lab: Lab) -> None:
    lab.targets = TargetSet((TargetSpec(name="t", url=f"file://{lab.store}", timezone="Europe/Berlin"),))
    made = lab.backup(b"x")
    parsed = naming.parse_archive(made.delta.name)
    assert parsed is not None
    assert parsed.stamp == dt.datetime(2026, 3, 1, 4, 1)  # noqa: DTZ001 - a stamp is local to the target
    assert made.header.time == int((NIGHT + dt.timedelta(minutes=1)).timestamp())


def test_only_what_changed_is_stored(lab: Lab) -> None:
    old = os.urandom(6 * BLOCK) + bytes(2 * BLOCK)
    lab.backup(old)
    new = bytearray(old)
    new[BLOCK] ^= 1
    new[3 * BLOCK : 4 * BLOCK] = bytes(BLOCK)
    new[7 * BLOCK] = 1
    made = lab.backup(bytes(new))
    page = lab.reader(made.delta).page(0)
    assert list(page.kinds) == [FULL, DELTA, FULL, ZERO, FULL, FULL, ZERO, DELTA]
    frames = made.header.section("frames")
    assert frames is not None
    assert frames.length < 1.1 * BLOCK + 1000


def test_the_newest_full_is_the_base(lab: Lab) -> None:
    lab.backup(b"1" * BLOCK)
    second = lab.backup(b"2" * BLOCK, full=True)
    delta = lab.backup(b"2" * BLOCK)
    assert delta.header.full_id == second.header.full_id
    assert delta.header.blocks_full == 1


def test_a_full_without_its_empty_delta_is_no_base(lab: Lab) -> None:
    made = lab.backup(b"1" * BLOCK)
    lab.path(made.delta).unlink()
    assert lab.backup(b"1" * BLOCK).full is not None


def test_a_damaged_full_is_no_base(lab: Lab) -> None:
    made = lab.backup(os.urandom(BLOCK))
    assert made.full is not None
    path = lab.path(made.full)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadArchive):
        lab.backup(b"1" * BLOCK)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([made.delta.name, made.full.name])


def test_a_source_that_changes_fails_the_backup(lab: Lab) -> None:
    lab.disk.write_bytes(os.urandom(40 * BLOCK))

    class Meddler(BackupReporter):
        def progress(self, disk: str, done: int, total: int) -> None:
            del disk, done, total
            with lab.disk.open("r+b") as file:
                file.write(b"changed")

    with pytest.raises(SourceRefused):
        backup(lab.disk, lab.targets["t"], BackupOptions(asked=ASKED, scratch=lab.folder), Meddler())
    assert [path for path in lab.store.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("digest", BlockDigest)
def test_every_effort_and_digest(lab: Lab, effort: Effort, digest: BlockDigest) -> None:
    data = b"compress me " * 100_000 + bytes(BLOCK)
    options = BackupOptions(asked=ASKED, effort=effort, block_digest=digest, at=NIGHT, scratch=lab.folder)
    made = lab.backup(data, options=options)
    changed = lab.backup(data[:-1] + b"x")
    assert made.header.block_digest is changed.header.block_digest is digest
    assert lab.restored(made.delta) == data
    assert lab.restored(changed.delta) == data[:-1] + b"x"


@pytest.mark.parametrize(
    ("asked", "why"), [(Asked(uuid="short"), "36"), (Asked(vm="a/b"), "folder"), (Asked(vm=".hidden"), "folder")]
)
def test_what_cannot_be_a_name(lab: Lab, asked: Asked, why: str) -> None:
    lab.disk.write_bytes(b"x")
    with pytest.raises(UsageError, match=why):
        backup(lab.disk, lab.targets["t"], BackupOptions(asked=asked, scratch=lab.folder), BackupReporter())


def test_names_that_are_too_long_are_refused_before_anything_is_written(lab: Lab) -> None:
    lab.disk.write_bytes(b"x")
    longest = "ü" * 103 + "x"  # 255 bytes with the date and the UUID
    backup(lab.disk, lab.targets["t"], BackupOptions(asked=Asked(vm=longest, uuid=UUID), scratch=lab.folder), BackupReporter())
    asked = Asked(vm=longest + "y", uuid=UUID)
    with pytest.raises(UsageError, match="1 bytes too long for the folder"):
        backup(lab.disk, lab.targets["t"], BackupOptions(asked=asked, scratch=lab.folder), BackupReporter())
    disk = lab.folder / ("d" * 220)
    disk.write_bytes(b"x")
    before = sorted(lab.store.rglob("*"))
    with pytest.raises(SourceRefused, match="bytes too long for the name of a Delta"):
        backup(disk, lab.targets["t"], BackupOptions(asked=ASKED, scratch=lab.folder), BackupReporter())
    assert sorted(lab.store.rglob("*")) == before


def test_a_raw_disk_gets_a_uuid_of_its_own_name(lab: Lab) -> None:
    lab.disk.write_bytes(b"x")
    times = (NIGHT, NIGHT + dt.timedelta(minutes=1))
    first, again = (
        backup(lab.disk, lab.targets["t"], BackupOptions(scratch=lab.folder, at=at), BackupReporter())[0].header for at in times
    )
    assert (first.vm, first.uuid) == (again.vm, again.uuid)
    assert (first.vm, len(first.uuid)) == ("disk", 36)


def test_holes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(20 << 20)
        file.write(b"data")
    fd = os.open(path, os.O_RDONLY)
    reads: list[int] = []
    honest = os.pread

    def counted(fd: int, length: int, offset: int) -> bytes:
        reads.append(offset)
        return honest(fd, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    parts = [read_segment(fd, number, 64 << 20, BLOCK) for number in range(4)]
    os.close(fd)
    assert reads == [20 << 20]
    assert [part.zero for part in parts] == [True, False, True, True]
    assert parts[1].blocks[16] == b"data" + bytes(BLOCK - 4)


def test_in_order_keeps_order_and_passes_errors_on() -> None:
    assert list(map_in_order(lambda n: n * n, range(50), threads=3)) == [n * n for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda n: 1 // (5 - n), range(50), threads=3))
