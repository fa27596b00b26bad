"""A Full, a Delta over it, and the disk of that Delta, served."""

from __future__ import annotations

import random

from restore_core.serve.disk import DiskRequest, ServedDisk, open_served_disk
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab


def disk_bytes(dice: random.Random, blocks: int, tail: bytes = b"odd") -> bytes:
    """A third of zero blocks, some data, and a short last block."""
    return b"".join(bytes(BLOCK) if n % 3 == 1 else dice.randbytes(4096) * (BLOCK // 4096) for n in range(blocks)) + tail


class Served:
    """A Full, a Delta over it, and what the disk of the Delta holds."""

    def __init__(self, lab: Lab) -> None:
        dice = random.Random(7)
        self.lab = lab
        old = disk_bytes(dice, 13)
        self.full = lab.backup(old).full
        new = bytearray(old)
        new[2 * BLOCK : 3 * BLOCK], new[5 * BLOCK : 6 * BLOCK] = dice.randbytes(BLOCK), bytes(BLOCK)
        self.data = bytes(new)
        self.delta = lab.backup(self.data).delta

    def open(self, delta: ArchiveRef | None = None) -> ServedDisk:
        return open_served_disk(DiskRequest(delta=delta or self.delta), self.lab.targets, reporter=self.lab.witness)

    def flip(self, ref: ArchiveRef | None, at: int) -> None:
        assert ref is not None
        path = self.lab.path(ref)
        whole = bytearray(path.read_bytes())
        whole[at] ^= 1
        path.write_bytes(whole)
