"""One flipped bit anywhere: the exact disk or an error and nothing under the final name; `verify` finds every one.

The planted bug at the end proves that these tests can fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.header import HEAD_BYTES
from restore_core.errors import BadArchive, ExitCode, PhdError
from restore_core.restore import pipeline
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab

FLIPS = 500


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, ArchiveRef, ArchiveRef, bytes]:
    """A Delta with blocks of every kind, its Full, and the disk."""
    lab = Lab(tmp_path_factory.mktemp("flips"))
    dice = random.Random(7)
    old = b"".join(bytes(BLOCK) if n % 3 == 0 else dice.randbytes(2048) * (BLOCK // 2048) for n in range(9)) + b"tail"
    full = lab.backup(old)
    new = bytearray(old)
    new[2 * BLOCK : 2 * BLOCK + 4000] = dice.randbytes(4000)
    new[4 * BLOCK : 5 * BLOCK] = bytes(BLOCK)
    delta = lab.backup(bytes(new))
    assert full.full is not None
    return lab, full.full, delta.delta, bytes(new)


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ (1 << bit % 8)
        file.seek(bit // 8)
        file.write(bytes([byte]))


def bits(lab: Lab, ref: ArchiveRef, count: int, seed: int) -> list[int]:
    """Seeded positions: half anywhere, half in the first 200 bytes and behind the head, where the structure is."""
    size = lab.path(ref).stat().st_size * 8
    dice = random.Random(seed)
    structure = [dice.randrange(200 * 8) for _ in range(count // 4)]
    if size > HEAD_BYTES * 8:
        structure += [dice.randrange(HEAD_BYTES * 8, size) for _ in range(count // 4)]
    return structure + [dice.randrange(size) for _ in range(count - len(structure))]


def outcome(call: Callable[[], object]) -> PhdError | None:
    try:
        call()
    except PhdError as error:
        return error
    return None


@pytest.mark.parametrize("which", ["full", "delta"])
def test_every_flip(case: tuple[Lab, ArchiveRef, ArchiveRef, bytes], which: str) -> None:
    lab, full, delta, data = case
    ref = full if which == "full" else delta
    silent = []
    for bit in bits(lab, ref, FLIPS // 2, seed=20260301):
        flip(lab.path(ref), bit)
        try:
            error = outcome(lambda: lab.restore(delta))
            if error is None:
                assert (lab.folder / "out" / "back.img").read_bytes() == data
                (lab.folder / "out" / "back.img").unlink()
            else:
                assert error.exit_code != ExitCode.DONE
                assert lab.leftovers() == []
            found = outcome(lambda: lab.verify(delta))
            if found is None:
                silent.append(bit)
        finally:
            flip(lab.path(ref), bit)
    assert silent == []
    assert lab.restored(delta) == data
    (lab.folder / "out" / "back.img").unlink()


def test_a_flip_is_named(case: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, delta, _ = case
    middle = lab.path(full).stat().st_size // 2
    flip(lab.path(full), middle * 8)
    try:
        error = outcome(lambda: lab.restore(delta))
    finally:
        flip(lab.path(full), middle * 8)
    assert isinstance(error, BadArchive)
    assert "frame" in error.message or "block" in error.message
    assert full.name in error.message


def test_verify_of_the_full_finds_its_own_flips(case: tuple[Lab, ArchiveRef, ArchiveRef, bytes]) -> None:
    lab, full, _, _ = case
    for bit in bits(lab, full, 40, seed=3):
        flip(lab.path(full), bit)
        try:
            assert outcome(lambda: lab.verify(full)) is not None, bit
        finally:
            flip(lab.path(full), bit)


def test_a_planted_bug_turns_it_red(case: tuple[Lab, ArchiveRef, ArchiveRef, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that inflates well but belongs elsewhere: only the digest check stands between it and the disk."""
    lab, _, delta, data = case
    honest = lab.reader(delta).full_frames(0)
    swapped = tuple([column[0], column[0], *column[2:]] for column in honest)
    monkeypatch.setattr(DeltaReader, "full_frames", lambda *_: swapped)
    with pytest.raises(BadArchive, match="block 5"):
        lab.restore(delta)
    monkeypatch.setattr(pipeline, "check_block", lambda *_: None)
    lab.restore(delta)
    assert (lab.folder / "out" / "back.img").read_bytes() != data
    (lab.folder / "out" / "back.img").unlink()
