"""Two thousand flips in Full, Delta and what they hold; more sizes and more changes than `make test` has time for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from restore_core.errors import PhdError
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab

FLIPS = 2000
SEED = 20260301


def attempt(lab: Lab, delta: ArchiveRef, name: str) -> bool:
    """Whether a restore said that it was done."""
    try:
        lab.restore(delta, name)
    except PhdError:
        return False
    return True


@pytest.mark.parametrize("which", ["full", "delta"])
def test_two_thousand_flips(tmp_path: Path, which: str) -> None:
    lab, dice = Lab(tmp_path), random.Random(SEED)
    old = b"".join(bytes(BLOCK) if n % 4 == 0 else dice.randbytes(4096) * (BLOCK // 4096) for n in range(17)) + b"odd"
    full = lab.backup(old)
    delta = lab.backup(old[:BLOCK] + dice.randbytes(3 * BLOCK) + old[4 * BLOCK :])
    data = lab.disk.read_bytes()
    assert full.full is not None
    path = lab.path(full.full if which == "full" else delta.delta)
    whole, unfound, bad = path.read_bytes(), [], []
    for _ in range(FLIPS // 2):
        bit = dice.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        out = lab.folder / "out" / "x.img"
        if attempt(lab, delta.delta, "x.img"):
            if out.read_bytes() != data:
                bad.append(bit)
            out.unlink()
        elif out.exists():
            bad.append(bit)
        try:
            lab.verify(delta.delta)
            unfound.append(bit)
        except PhdError:
            pass
    assert (bad, unfound) == ([], [])
    path.write_bytes(whole)
    assert lab.restored(delta.delta, "x.img") == data


def test_every_truncation_boundary(tmp_path: Path) -> None:
    lab, dice = Lab(tmp_path), random.Random(SEED)
    full = lab.backup(dice.randbytes(2 * BLOCK) + bytes(BLOCK) + dice.randbytes(BLOCK // 2))
    delta = lab.backup(lab.disk.read_bytes()[: 3 * BLOCK] + b"new tail")
    assert full.full is not None
    for ref, step in ((full.full, 4093), (delta.delta, 509)):
        path = lab.path(ref)
        whole = path.read_bytes()
        ends = {s.offset for s in delta.header.sections} | {s.offset + s.length - 1 for s in delta.header.sections}
        for end in sorted({*range(0, len(whole), step), *(e for e in ends if e < len(whole))}):
            path.write_bytes(whole[:end])
            assert not attempt(lab, delta.delta, "x.img"), f"{ref.name} cut at {end}"
            assert lab.leftovers() == []
        path.write_bytes(whole)
