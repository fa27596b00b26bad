"""R10, R11: one flipped bit, one missing byte, anywhere in a Full or a Delta, ends the restore and is found by verify."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

from restore_core.errors import PhdError
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab
from tests.proof.scoreboard import Figure, Round, Row


def restored_right_or_refused(lab: Lab, delta: ArchiveRef, data: bytes) -> bool:
    """The disk is exact, or is not there."""
    out = lab.folder / "out" / "x.img"
    with contextlib.suppress(PhdError):
        lab.restore(delta, "x.img")
    right = not out.exists() or out.read_bytes() == data
    out.unlink(missing_ok=True)
    return right and lab.leftovers() == []


def verify_finds(lab: Lab, delta: ArchiveRef) -> bool:
    try:
        lab.verify(delta)
    except PhdError:
        return True
    return False


def two_archives(folder: Path, dice: random.Random) -> tuple[Lab, ArchiveRef, tuple[Path, Path], bytes]:
    """A Full and a Delta of the changed disk; the Delta, both files, and what the Delta restores."""
    lab = Lab(folder)
    old = b"".join(bytes(BLOCK) if n % 4 == 0 else dice.randbytes(4096) * (BLOCK // 4096) for n in range(9)) + b"odd"
    full = lab.backup(old)
    delta = lab.backup(old[:BLOCK] + dice.randbytes(2 * BLOCK) + old[3 * BLOCK :])
    if full.full is None:
        raise AssertionError("the first backup of a disk is a Full")
    return lab, delta.delta, (lab.path(full.full), lab.path(delta.delta)), lab.disk.read_bytes()


def flips(asked: Round) -> Figure:
    dice = asked.dice()
    lab, delta, paths, data = two_archives(asked.folder, dice)
    held, first = 0, ""
    for number in range(count := asked.times(2000)):
        path = paths[number % 2]
        whole = path.read_bytes()
        bit = dice.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        good = restored_right_or_refused(lab, delta, data) and verify_finds(lab, delta)
        held += good
        first = first or ("" if good else f"first: bit {bit} of {path.name}")
        path.write_bytes(whole)
    return Figure(held=held, of=count, note=first)


ROWS = (
    Row(
        id="R10",
        what="bit flips in Full and Delta",
        target="all found before the final name",
        run=flips,
        mutants=("bits:verify_skips_the_blocks", "bits:writes_unchecked_blocks"),
        short=0.05,
    ),
)
