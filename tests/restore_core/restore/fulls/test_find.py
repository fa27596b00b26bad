"""The Full is found by content: renamed, moved, beside, next door; a wrong one is refused before the first write."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from restore_core.errors import ArchiveAbsent, BadArchive, NotThisFull, TargetUnavailable, TryAgainLater
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef, TargetSpec
from restore_core.targets.local import LocalSource
from tests.lab import BLOCK, Lab


@pytest.fixture
def pair(lab: Lab) -> tuple[Lab, ArchiveRef, ArchiveRef, bytes]:
    data = os.urandom(3 * BLOCK)
    made = lab.backup(data)
    assert made.full is not None
    return lab, made.full, made.delta, data


def test_renamed(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, delta, data = pair
    lab.path(full).rename(lab.path(full).with_name("what is this.bin"))
    assert lab.restored(delta) == data


def test_moved_to_another_target(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes], tmp_path: Path) -> None:
    lab, full, delta, data = pair
    (tmp_path / "other" / "box").mkdir(parents=True)
    lab.path(full).rename(tmp_path / "other" / "box" / "moved.phd")
    lab.targets = TargetSet((*lab.targets.specs.values(), TargetSpec(name="u", url=f"file://{tmp_path}/other")))
    assert lab.restored(delta) == data


def test_a_local_delta_finds_its_full_next_door(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, delta, data = pair
    door = lab.store / "2026.03.09-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074"
    door.mkdir()
    lab.path(full).rename(door / "renamed.phd")
    lab.targets = TargetSet(())
    assert lab.restored(ArchiveRef(target=LOCAL, path=str(lab.path(delta)))) == data


def test_absent(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, delta, _ = pair
    lab.path(full).unlink()
    with pytest.raises(ArchiveAbsent, match="is on no target") as caught:
        lab.restore(delta)
    assert not caught.value.try_again
    assert lab.leftovers() == []


def test_absent_here_and_another_target_is_silent(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes], tmp_path: Path) -> None:
    lab, full, delta, _ = pair
    lab.path(full).unlink()
    lab.targets = TargetSet((*lab.targets.specs.values(), TargetSpec(name="gone", url=f"file://{tmp_path}/not mounted")))
    with pytest.raises(TargetUnavailable, match="not every target answers") as caught:
        lab.restore(delta)
    assert caught.value.try_again


def test_another_full_under_its_name(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, delta, data = pair
    other = lab.backup(data, full=True)
    assert other.full is not None
    lab.path(other.full).replace(lab.path(full))
    with pytest.raises(BadArchive, match=r"not the Full of this Delta: id [0-9a-f]{32}, needed [0-9a-f]{32}"):
        lab.restore(delta)
    with pytest.raises(NotThisFull):
        lab.restore(delta, full=full)
    assert lab.leftovers() == []


def test_compressed_again(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, delta, data = pair
    lab.path(full).write_bytes(gzip.compress(data, 9))
    with pytest.raises(BadArchive, match="id none") as caught:
        lab.restore(delta)
    assert "compressed again" in caught.value.remedy


@pytest.mark.parametrize("keep", [0, 1, 17, 1000, -1])
def test_truncated_full(pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes], keep: int) -> None:
    lab, full, delta, _ = pair
    whole = lab.path(full).read_bytes()
    lab.path(full).write_bytes(whole[:keep])
    with pytest.raises(BadArchive):
        lab.restore(delta)
    assert lab.leftovers() == []


def test_no_block_needs_it(lab: Lab) -> None:
    full = lab.backup(b"a" * BLOCK)
    made = lab.backup(b"b" * BLOCK)
    assert full.full is not None
    lab.path(full.full).unlink()
    assert lab.restored(made.delta) == b"b" * BLOCK
    assert any("not needed" in note for note in lab.witness.notes)


def test_a_listing_is_not_asked_for_when_the_name_proves(
    pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, _, delta, data = pair
    monkeypatch.setattr("restore_core.targets.local.LocalTarget.listing", lambda _self: pytest.fail("listed for nothing"))
    assert lab.restored(delta) == data


@pytest.mark.parametrize("damage", ["flip", "drop"])
def test_two_copies_and_one_breaks_midway(
    pair: tuple[Lab, ArchiveRef, ArchiveRef, bytes], tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that fails its check on one copy, or a target that goes away, is made up for by the other copy."""
    lab, _, _, _ = pair
    data = os.urandom(40 * BLOCK)
    made = lab.backup(data, full=True)
    assert made.full is not None
    path, other = lab.path(made.full), tmp_path / "other" / "box"
    other.mkdir(parents=True)
    (other / "copy.phd").write_bytes(path.read_bytes())
    lab.targets = TargetSet((*lab.targets.specs.values(), TargetSpec(name="u", url=f"file://{tmp_path}/other")))
    if damage == "flip":
        whole = bytearray(path.read_bytes())
        whole[len(whole) * 3 // 4] ^= 1
        path.write_bytes(whole)
    else:
        honest, reads = LocalSource.read_at, []

        def drops(self: LocalSource, offset: int, length: int) -> bytes:
            if self.ref == made.full:
                reads.append(offset)
                if len(reads) > 6:
                    raise TryAgainLater(f"{self.ref}: reading at {offset}: connection reset")
            return honest(self, offset, length)

        monkeypatch.setattr(LocalSource, "read_at", drops)
    assert lab.restored(made.delta) == data
    assert any("looking for another copy" in note for note in lab.witness.notes)
    (other / "copy.phd").unlink()
    with pytest.raises(BadArchive if damage == "flip" else TargetUnavailable):
        lab.restore(made.delta, "second.img")
    assert lab.leftovers() == ["back.img"]
