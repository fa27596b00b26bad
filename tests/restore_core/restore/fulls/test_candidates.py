"""The list of Fulls for a Delta: all of that disk, on all targets, the proven one first, and why the others are not it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from restore_core.catalog.index import Catalog
from restore_core.restore.fulls.candidates import Candidate, candidates
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef, TargetSpec
from restore_core.targets.kinds import make_target
from tests.lab import BLOCK, Lab


def listed(lab: Lab, delta: ArchiveRef) -> list[Candidate]:
    for path in lab.folder.rglob("*.phd"):
        os.utime(path, (time.time() - 3600,) * 2)
    catalog = Catalog(lab.folder / "catalog", tuple(lab.targets.specs.values()))
    catalog.index(make_target)
    return candidates(lab.reader(delta), catalog, lab.targets)


@pytest.fixture
def two_fulls(lab: Lab) -> tuple[Lab, ArchiveRef, ArchiveRef, ArchiveRef]:
    data = os.urandom(3 * BLOCK)
    first = lab.backup(data)
    second = lab.backup(data + b"more", full=True)
    delta = lab.backup(data + b"most")
    assert first.full is not None
    assert second.full is not None
    return lab, first.full, second.full, delta.delta


def test_the_proven_one_comes_first_and_the_other_says_why(two_fulls: tuple[Lab, ArchiveRef, ArchiveRef, ArchiveRef]) -> None:
    lab, first, second, delta = two_fulls
    found = listed(lab, delta)
    assert [(one.ref, one.proven) for one in found] == [(second, True), (first, False)]
    assert "another backup" in found[1].why
    assert "proven by its id" in found[0].why


def test_renamed_moved_and_duplicated(two_fulls: tuple[Lab, ArchiveRef, ArchiveRef, ArchiveRef], tmp_path: Path) -> None:
    lab, first, second, delta = two_fulls
    other = tmp_path / "other" / "box"
    other.mkdir(parents=True)
    (other / "copy.phd").write_bytes(lab.path(second).read_bytes())
    lab.path(second).rename(lab.path(second).with_name("renamed.phd"))
    lab.targets = TargetSet((*lab.targets.specs.values(), TargetSpec(name="u", url=f"file://{tmp_path}/other")))
    found = listed(lab, delta)
    assert [str(one.ref).rpartition("/")[2] for one in found] == ["renamed.phd", "copy.phd", first.name]
    assert [one.proven for one in found] == [True, True, False]


def test_one_of_the_right_size_that_is_not_it(two_fulls: tuple[Lab, ArchiveRef, ArchiveRef, ArchiveRef]) -> None:
    lab, first, second, delta = two_fulls
    size = lab.path(second).stat().st_size
    whole = lab.path(first).read_bytes()
    lab.path(first).write_bytes((whole + bytes(size))[:size])
    found = listed(lab, delta)
    assert [(one.ref, one.proven) for one in found] == [(second, True), (first, False)]
    assert "not the Full of this Delta: id" in found[1].why
    assert first.name not in found[1].why


def test_a_local_delta_looks_next_door(two_fulls: tuple[Lab, ArchiveRef, ArchiveRef, ArchiveRef]) -> None:
    lab, _, second, delta = two_fulls
    path = lab.path(delta)
    lab.targets = TargetSet(())
    found = listed(lab, ArchiveRef(target=LOCAL, path=str(path)))
    assert found[0].ref == ArchiveRef(target=LOCAL, path=str(lab.path(second)))
    assert [one.proven for one in found] == [True, False]
