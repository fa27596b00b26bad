"""Several copies of a Full: the catalog knows of them, the faster one is read, and nobody waits for a target that is down."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.archive.full_reader import FullReader
from restore_core.catalog.index import Catalog
from restore_core.errors import Stopped, TargetUnavailable
from restore_core.restore.fulls import copies
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, TargetSpec
from restore_core.targets.kinds import make_target
from restore_core.targets.local import LocalSource
from tests.lab import BLOCK, Lab


class Pair:
    """A Full on the Delta's own target `t`, and a renamed copy of it on the target `u`."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.data = lab, os.urandom(6 * BLOCK)
        made = lab.backup(self.data)
        assert made.full is not None
        self.full, self.delta = made.full, made.delta
        self.other = ArchiveRef(target="u", path="box/renamed.bin")
        path = folder / "other" / self.other.path
        path.parent.mkdir(parents=True)
        path.write_bytes(lab.path(made.full).read_bytes())
        for archive in (path, lab.path(made.full)):
            os.utime(archive, (time.time() - 3600,) * 2)  # settled: a copy that may still be growing is not offered
        lab.targets = TargetSet((*lab.targets.specs.values(), TargetSpec(name="u", url=f"file://{folder}/other")))
        self.catalog = folder / "catalog"

    def restored_from(self) -> ArchiveRef | None:
        (self.lab.folder / "out" / "back.img").unlink(missing_ok=True)
        outcome = self.lab.restore(self.delta, catalog=self.catalog)
        assert (self.lab.folder / "out" / "back.img").read_bytes() == self.data
        return outcome.full


@pytest.fixture
def pair(lab: Lab, tmp_path: Path) -> Pair:
    return Pair(lab, tmp_path)


def slow(monkeypatch: pytest.MonkeyPatch, ref: ArchiveRef) -> None:
    """Whatever is read as a stream from this copy comes slowly."""
    honest = LocalSource.stream

    def stream(self: LocalSource, offset: int = 0, length: int | None = None, *, chunk: int = 1 << 20) -> Iterator[bytes]:
        for data in honest(self, offset, length, chunk=chunk):
            if self.ref == ref:
                time.sleep(0.2)
            yield data

    monkeypatch.setattr(LocalSource, "stream", stream)


def test_the_faster_one_is_read(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, pair.full)
    assert pair.restored_from() == pair.other
    assert any("2 copies of the Full: u:" in note for note in pair.lab.witness.notes)


def test_and_that_is_the_own_target_if_the_other_is_slower(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, pair.other)
    assert pair.restored_from() == pair.full


def test_without_a_clear_difference_the_own_target_is_read(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_speed", lambda source: 1.2 if source.ref == pair.other else 1.0)
    assert pair.restored_from() == pair.full


def test_a_wrong_one_among_them_is_noted(pair: Pair) -> None:
    path = pair.lab.folder / "other" / pair.other.path
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 1
    path.write_bytes(damaged)
    os.utime(path, (time.time() - 3600,) * 2)
    assert pair.restored_from() == pair.full
    assert any(note.startswith("not taken: u:") for note in pair.lab.witness.notes)


def test_nobody_waits_for_a_target_that_is_down(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, never = FullReader.prove, threading.Event()

    def prove(self: FullReader, delta: object) -> None:
        if self.source.ref == pair.other:
            never.wait(60)
        honest(self, delta)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(FullReader, "prove", prove)
    monkeypatch.setattr(copies, "GRACE", 0.01)
    try:
        assert pair.restored_from() == pair.full
        assert not never.is_set()
    finally:
        never.set()


def test_who_waits_for_copies_that_do_not_answer_may_be_told_to_stop(pair: Pair) -> None:
    never = threading.Event()

    def prove(_ref: ArchiveRef) -> FullReader:
        never.wait(60)
        raise TargetUnavailable("silent")

    def stop() -> None:
        raise Stopped("cancelled")

    try:
        with pytest.raises(Stopped):
            copies.try_all([pair.full, pair.other], prove, stop)
        assert not never.is_set()
    finally:
        never.set()


def test_a_listing_too_old_is_made_anew_and_one_that_is_fresh_is_not(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.restored_from()
    catalog = Catalog(pair.catalog, tuple(pair.lab.targets.specs.values()))
    assert all(one.head for one in catalog.known())
    monkeypatch.setattr("restore_core.catalog.index._QUICK", 0.0)
    monkeypatch.setattr("restore_core.targets.local.LocalTarget.listing", lambda _self: pytest.fail("listed for nothing"))
    pair.restored_from()


def test_a_changed_url_forgets_the_trouble_of_the_old_one(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog", (TargetSpec(name="t", url=f"file://{tmp_path}/not there"),))
    assert catalog.index(make_target)[0].problem
    (tmp_path / "there").mkdir()
    mended = Catalog(tmp_path / "catalog", (TargetSpec(name="t", url=f"file://{tmp_path}/there"),))
    assert mended.known()[0].problem == ""
    assert mended.old(max_age=3600, now=time.time()) == ["t"]
