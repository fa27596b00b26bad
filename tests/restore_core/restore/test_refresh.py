"""Refresh: only what differs is moved, a bad archive or a crash never harms the replica, and a stranger's work is left alone."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_core import durable
from restore_core.errors import BadArchive, DestinationInUse, Diverged, PhdError, Stopped
from restore_core.restore import receipt, redo, run
from restore_core.restore.existing import ExistingDisk
from restore_core.restore.request import OURS, RestoreOutcome
from restore_core.targets.base import ArchiveRef
from restore_core.targets.local import LocalSource
from tests.lab import BLOCK, Lab, Witness, go_on, request_for

SIZE = 24 * BLOCK


def disk_bytes(seed: int, size: int = SIZE) -> bytes:
    dice = random.Random(seed)
    blocks = [bytes(BLOCK) if dice.random() < 0.3 else dice.randbytes(64) * (BLOCK // 64) for _ in range(-(-size // BLOCK))]
    return b"".join(blocks)[:size]


def changed(data: bytes, blocks: list[int]) -> bytes:
    new = bytearray(data)
    for block in blocks:
        new[block * BLOCK + 77 : block * BLOCK + 99] = os.urandom(22)
    return bytes(new)


class Replica:
    """A raw replica at out/r.img with records kept."""

    def __init__(self, lab: Lab, name: str = "r.img") -> None:
        self.lab, self.path = lab, lab.folder / "out" / name
        self.records = lab.folder / "records"
        self.records.mkdir(exist_ok=True)

    def restore(
        self, delta: ArchiveRef, stop: Callable[[], None] = go_on, *, keep: bool = False, **asked: object
    ) -> RestoreOutcome:
        fields = {"overwrite": True, "records": self.records, **asked}
        request = request_for(delta=delta, destination=self.path, **fields)
        self.lab.witness = Witness()
        return run.restore_delta(request, self.lab.targets, reporter=self.lab.witness, stop=stop, keep_part=lambda _error: keep)

    @property
    def bytes(self) -> bytes:
        return self.path.read_bytes()


@pytest.fixture
def replica(lab: Lab) -> Replica:
    return Replica(lab)


def two_days(lab: Lab, blocks: list[int]) -> tuple[bytes, ArchiveRef, bytes, ArchiveRef]:
    old = disk_bytes(1)
    monday = lab.backup(old)
    new = changed(old, blocks)
    tuesday = lab.backup(new)
    return old, monday.delta, new, tuesday.delta


def test_only_what_differs_is_moved(replica: Replica) -> None:
    old, monday, new, tuesday = two_days(replica.lab, [3, 11])
    replica.restore(monday)
    inode = replica.path.stat().st_ino
    outcome = replica.restore(tuesday)
    assert replica.bytes == new
    assert replica.path.stat().st_ino == inode
    assert outcome.way.startswith("refresh in place, through a redo file: 2 of 24 blocks")
    assert "whose digests are known" in outcome.way
    assert replica.lab.leftovers() == ["r.img"]
    back = replica.restore(monday)
    assert replica.bytes == old
    assert (back.plan.full_blocks + back.plan.zero_blocks, back.plan.delta_blocks) == (2, 0)


@pytest.mark.parametrize(("old", "new"), [('"blake3"', '"blake9"'), ("{", "null {"), ("{", '[{"version": 1}, {')])
def test_a_receipt_that_a_newer_phd_wrote_is_none(replica: Replica, old: str, new: str) -> None:
    """After a downgrade a digest may be unknown: the disk is hashed, as without a receipt."""
    _, monday, content, tuesday = two_days(replica.lab, [3, 11])
    replica.restore(monday)
    for kept in replica.records.glob("*.json"):
        text = kept.read_text()
        assert old in text
        kept.write_text("null" if new.startswith("null") else text.replace(old, new, 1) + ("]" if new.startswith("[") else ""))
    replica.restore(tuesday)
    assert replica.bytes == content


def test_without_records_the_disk_is_hashed(replica: Replica) -> None:
    _, monday, new, tuesday = two_days(replica.lab, [3, 11])
    replica.restore(monday, records=None)
    outcome = replica.restore(tuesday, records=None)
    assert replica.bytes == new
    assert "2 of 24 blocks (hashed what was there)" in outcome.way


def test_a_disk_that_was_touched_is_hashed(replica: Replica) -> None:
    _, monday, new, tuesday = two_days(replica.lab, [3])
    replica.restore(monday)
    with replica.path.open("r+b") as file:
        file.seek(9 * BLOCK)
        file.write(b"scribble")
    outcome = replica.restore(tuesday)
    assert "2 of 24 blocks (hashed" in outcome.way
    assert replica.bytes == new


def test_nothing_differs(replica: Replica) -> None:
    _, monday, _, _ = two_days(replica.lab, [3])
    replica.restore(monday)
    before = replica.path.stat()
    outcome = replica.restore(monday)
    assert outcome.way.startswith("refresh: nothing differs")
    assert replica.path.stat().st_mtime_ns == before.st_mtime_ns


def test_the_full_is_not_even_opened_when_the_delta_suffices(replica: Replica) -> None:
    _, monday, new, tuesday = two_days(replica.lab, [5])
    replica.restore(monday)
    for full in replica.lab.store.rglob("*.gz-*"):
        full.unlink()
    replica.restore(tuesday)
    assert replica.bytes == new


def test_zero_blocks_become_zero(replica: Replica) -> None:
    old = os.urandom(SIZE)
    monday = replica.lab.backup(old)
    new = old[: 4 * BLOCK] + bytes(3 * BLOCK) + old[7 * BLOCK :]
    tuesday = replica.lab.backup(new)
    replica.restore(monday.delta)
    allocated = replica.path.stat().st_blocks
    outcome = replica.restore(tuesday.delta)
    assert replica.bytes == new
    assert "0 of 24 blocks and 3 to be zeroed" in outcome.way
    assert replica.path.stat().st_blocks >= allocated, "a thick disk stays thick"


@pytest.mark.parametrize("size", [SIZE - 3 * BLOCK - 5, SIZE - BLOCK, SIZE + 5, SIZE + 4 * BLOCK + 1])
@pytest.mark.parametrize("name", ["r.img"])
def test_grown_and_shrunk(replica: Replica, size: int, name: str) -> None:
    del name
    old = disk_bytes(1)
    monday = replica.lab.backup(old)
    new = (old + b"grown" * BLOCK)[:size]
    tuesday = replica.lab.backup(new)
    replica.restore(monday.delta)
    outcome = replica.restore(tuesday.delta)
    assert replica.bytes == new
    # A disk that shrinks is replaced: its tail could not be given back.
    assert ("redo" if size > SIZE else "the disk shrinks") in outcome.way
    replica.restore(monday.delta)
    assert replica.bytes == old


def test_more_than_half_is_written_anew(replica: Replica) -> None:
    old = os.urandom(SIZE)
    monday, new = replica.lab.backup(old), os.urandom(SIZE)
    tuesday = replica.lab.backup(new)
    replica.restore(monday.delta)
    outcome = replica.restore(tuesday.delta)
    assert outcome.way == "replaced as a whole: more than half of it differs"
    assert replica.bytes == new


def test_a_bad_archive_never_harms_the_replica(replica: Replica) -> None:
    old, monday, _, tuesday = two_days(replica.lab, [3, 11])
    replica.restore(monday)
    path = replica.lab.path(tuesday)
    whole = bytearray(path.read_bytes())
    frames = replica.lab.reader(tuesday).header.section("frames")
    assert frames is not None
    whole[frames.offset + frames.length - 20] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BadArchive):
        replica.restore(tuesday)
    assert replica.bytes == old
    assert replica.lab.leftovers() == ["r.img"]


def test_a_vmdk_keeps_its_descriptor(lab: Lab) -> None:
    replica = Replica(lab, "r.vmdk")
    _, monday, new, tuesday = two_days(lab, [3])
    replica.restore(monday)
    replica.restore(tuesday)
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]
    assert (lab.folder / "out" / "r-flat.vmdk").read_bytes() == new


def test_diverged(replica: Replica) -> None:
    old, monday, _, tuesday = two_days(replica.lab, [3])
    replica.restore(monday)
    with replica.path.open("r+b") as file:
        file.write(b"an emergency: a day's work")
    with pytest.raises(Diverged) as caught:
        replica.restore(tuesday, overwrite=OURS)
    assert not caught.value.try_again
    assert replica.bytes[26:] == old[26:]
    replica.restore(tuesday)
    replica.restore(monday, overwrite=OURS)
    assert replica.bytes == old


def test_a_disk_we_never_wrote_is_diverged(replica: Replica) -> None:
    _, monday, _, _ = two_days(replica.lab, [3])
    replica.path.parent.mkdir()
    replica.path.write_bytes(b"somebody's")
    with pytest.raises(Diverged):
        replica.restore(monday, overwrite=OURS)
    assert replica.bytes == b"somebody's"


def test_held_by_another_restore(replica: Replica) -> None:
    _, monday, _, _ = two_days(replica.lab, [3])
    replica.restore(monday)
    folder = os.open(replica.path.parent, os.O_RDONLY)
    other = durable.take_part("r.img.phd-new", dir_fd=folder)
    with pytest.raises(DestinationInUse):
        replica.restore(monday)
    os.close(other)
    os.close(folder)


class Crash(BaseException):
    """A power cut, as far as one process can play it."""


CALLS = ["write_all_at", "sync_file", "move", "write_whole", "write_new", "remove", "take_part"]


@pytest.mark.parametrize("name", ["r.img", "r.vmdk"])
def test_a_crash_at_every_step_leaves_old_or_completes_to_new(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every durable call of a refresh is made to fail once, for good; then the next attempt runs."""
    replica = Replica(lab, name)
    flat = lab.folder / "out" / name.replace(".vmdk", "-flat.vmdk")
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    step, seen = 0, set()
    while True:
        step += 1
        with monkeypatch.context() as patch:
            left = [step]
            for call in CALLS:
                patch.setattr(durable, call, _dies_after(getattr(durable, call), left))
            try:
                replica.restore(tuesday, keep=True)
                break
            except (Crash, PhdError):
                pass
        state = flat.read_bytes() if flat.exists() else None
        descriptor = replica.path.exists()
        half = state not in (old, new)
        seen.add("half" if half else "old" if state == old else "new")
        assert not (half and descriptor), f"step {step}: a half-applied disk under a name that can be started"
        replica.restore(tuesday, again=True, overwrite=OURS)
        assert flat.read_bytes() == new
        assert [p for p in lab.leftovers() if "phd" in p] == []
        replica.restore(monday)
        assert flat.read_bytes() == old
    assert step > 10
    assert seen >= {"old", "half"}


def _dies_after(call: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def wrapped(*args: object, **named: object) -> object:
        if left[0] <= 0:
            raise Crash
        left[0] -= 1
        if left[0] == 0:
            raise Crash
        return call(*args, **named)

    return wrapped


def test_without_the_seal_a_crash_would_show(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: apply straight to the disk, with its descriptor in place. The check above would see it."""
    replica = Replica(lab, "r.vmdk")
    flat = lab.folder / "out" / "r-flat.vmdk"
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    monkeypatch.setattr(redo, "hide", lambda *_: None)
    monkeypatch.setattr(ExistingDisk, "prove_again", lambda *_: None)
    written: list[int] = []
    honest = durable.write_all_at

    def dies(fd: int, data: bytes, offset: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("r-flat.vmdk"):
            written.append(offset)
            if len(written) == 2:
                raise Crash
        honest(fd, data, offset)

    monkeypatch.setattr(durable, "write_all_at", dies)
    with pytest.raises(Crash):
        replica.restore(tuesday, keep=True)
    assert flat.read_bytes() not in (old, new)
    assert replica.path.exists(), "half-applied, and startable: what must never be"


def test_a_redo_of_another_disk_is_thrown_away(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    old, monday, new, tuesday = two_days(replica.lab, [3])
    replica.restore(monday)
    monkeypatch.setattr(redo, "apply_or_take_back", lambda *_, **__: (_ for _ in ()).throw(Crash()))
    with pytest.raises(Crash):
        replica.restore(tuesday)
    monkeypatch.undo()
    hidden = replica.path.with_name("r.img.phd-applying")
    hidden.unlink()
    replica.path.write_bytes(old)
    replica.restore(tuesday)
    assert replica.bytes == new
    assert any("deleted the redo file" in note for note in replica.lab.witness.notes)


def test_resume_rewrites_only_what_is_missing(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(64 * BLOCK) + bytes(8 * BLOCK)
    made = replica.lab.backup(data)
    written: list[int] = []
    honest = durable.write_all_at

    def dies_midway(fd: int, piece: bytes, offset: int) -> None:
        if len(written) >= 8:
            raise Stopped("the plug")
        written.append(len(piece))
        honest(fd, piece, offset)

    monkeypatch.setattr(durable, "write_all_at", dies_midway)
    with pytest.raises(Stopped):
        replica.restore(made.delta, keep=True)
    monkeypatch.undo()
    assert replica.lab.leftovers() == ["r.img.phd-hold", "r.img.phd-new"]
    outcome = replica.restore(made.delta)
    assert outcome.way.startswith("went on with the part file")
    assert outcome.plan.keep_bytes >= sum(written)
    assert replica.bytes == data


def test_a_part_file_of_something_else_never_poisons(replica: Replica) -> None:
    data = disk_bytes(5)
    made = replica.lab.backup(data)
    replica.path.parent.mkdir()
    (replica.path.parent / "r.img.phd-new").write_bytes(os.urandom(len(data)))
    replica.restore(made.delta)
    assert replica.bytes == data
    replica.path.unlink()
    (replica.path.parent / "r.img.phd-new").write_bytes(os.urandom(100))
    replica.restore(made.delta)
    assert replica.bytes == data


def test_finished_but_not_said(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker died between the final name and the outcome: the next attempt finds its own work and says done."""
    data = disk_bytes(5)
    made = replica.lab.backup(data)
    monkeypatch.setattr(receipt.Receipts, "settle", lambda *_: (_ for _ in ()).throw(Crash()))
    with pytest.raises(Crash):
        replica.restore(made.delta, overwrite=False)
    monkeypatch.undo()
    outcome = replica.restore(made.delta, overwrite=False, again=True)
    assert outcome.way.startswith("refresh: nothing differs")
    assert replica.bytes == data


@settings(max_examples=30)
@given(
    old=st.lists(st.sampled_from("0ab"), max_size=10),
    new=st.lists(st.sampled_from("0abc"), max_size=10),
    tails=st.tuples(st.integers(0, BLOCK - 1), st.integers(0, BLOCK - 1)),
    records=st.booleans(),
)
def test_any_disk_onto_any_other(
    old: list[str], new: list[str], tails: tuple[int, int], records: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def data(letters: list[str], tail: int) -> bytes:
        return b"".join(bytes(BLOCK) if c == "0" else c.encode() * BLOCK for c in letters) + b"t" * tail

    lab = Lab(Path(tmp_path_factory.mktemp("any")))
    replica = Replica(lab)
    kept: dict[str, Any] = {} if records else {"records": None}
    first, second = lab.backup(data(old, tails[0])), lab.backup(data(new, tails[1]))
    replica.restore(first.delta, **kept)
    replica.restore(second.delta, **kept)
    assert replica.bytes == data(new, tails[1])
    assert lab.leftovers() == ["r.img"]


def test_bytes_fetched_are_those_of_the_frames_that_differ(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1.1 times the compressed size of the frames that hold what differs, and nothing else of the Full."""
    old = os.urandom(SIZE)
    monday = replica.lab.backup(old)
    tuesday = replica.lab.backup(changed(old, [3, 4, 17]))
    replica.restore(tuesday.delta)
    assert monday.full is not None
    full = monday.full
    reads: list[int] = []
    honest = LocalSource.read_at

    def counted(self: LocalSource, offset: int, length: int) -> bytes:
        if self.ref.path == full.path:
            reads.append(length)
        return honest(self, offset, length)

    monkeypatch.setattr(LocalSource, "read_at", counted)
    replica.restore(monday.delta)
    assert replica.bytes == old
    lengths = replica.lab.reader(monday.delta).full_frames(0)[1]
    differing = lengths[0] + lengths[1] + lengths[4]
    probes = max(lengths) + (64 << 10)  # the Full's first bytes, and one frame to prove it by
    assert sum(reads) <= 1.1 * differing + probes
