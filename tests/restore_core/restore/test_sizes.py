"""Awkward sizes: whatever the disk is, Full and Delta give it back to the byte, and so do the ordinary tools."""

from __future__ import annotations

import gzip
import hashlib
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, FRAME, Lab

SIZES = [0, 1, 511, 512, BLOCK - 1, BLOCK, BLOCK + 1, FRAME - 1, FRAME, FRAME + 1, 3 * BLOCK + 77, (16 << 20) + 5]


def filled(size: int, seed: int, zero_part: float = 0.3) -> bytes:
    """Bytes with zero blocks in them: the kinds of block a disk has."""
    dice = random.Random(seed)
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < size:
        length = dice.choice([100, BLOCK // 2, BLOCK, BLOCK + 1])
        pieces.append(bytes(length) if dice.random() < zero_part else dice.randbytes(64) * (length // 64 + 1))
    return b"".join(pieces)[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("zero_part", [0.0, 0.4, 1.0])
def test_full_and_empty_delta(lab: Lab, size: int, zero_part: float) -> None:
    data = filled(size, size, zero_part)
    made = lab.backup(data)
    assert made.full is not None
    assert gzip.decompress(lab.path(made.full).read_bytes()) == data
    assert made.header.empty
    assert lab.restored(made.delta) == data
    assert lab.verify(made.delta).disk_size == size
    assert lab.verify(made.full).by.startswith("its empty Delta")


@pytest.mark.parametrize("before", [0, 1, BLOCK, FRAME + 1, 5 * BLOCK + 9])
@pytest.mark.parametrize("after", [0, 1, BLOCK - 1, BLOCK + 1, 2 * FRAME, 5 * BLOCK + 10])
def test_grown_and_shrunk(lab: Lab, before: int, after: int) -> None:
    old, new = filled(before, 1), filled(after, 2)
    lab.backup(old)
    made = lab.backup(new[: min(before, after) // 2] + old[min(before, after) // 2 : before // 2] + new[before // 2 :])
    data = lab.disk.read_bytes()
    assert made.full is None
    assert lab.restored(made.delta) == data
    lab.verify(made.delta)


@settings(max_examples=40)
@given(
    blocks=st.lists(st.sampled_from("0ab"), max_size=12),
    changes=st.lists(st.tuples(st.integers(0, 11), st.sampled_from("0abc")), max_size=8),
    tail=st.integers(0, BLOCK - 1),
    new_tail=st.integers(0, BLOCK - 1),
)
def test_any_change(blocks: list[str], changes: list[tuple[int, str]], tail: int, new_tail: int) -> None:
    def disk(letters: list[str], rest: int) -> bytes:
        return b"".join(bytes(BLOCK) if c == "0" else c.encode() * BLOCK for c in letters) + b"t" * rest

    changed = list(blocks)
    for at, letter in changes:
        changed[at : at + 1] = [letter]
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        old, new = disk(blocks, tail), disk(changed, new_tail)
        full = lab.backup(old)
        delta = lab.backup(new)
        assert lab.restored(delta.delta) == new
        assert lab.restored(full.delta) == old
        check_shell_lists(lab, delta.delta, old, new)


def check_shell_lists(lab: Lab, ref: ArchiveRef, old: bytes, new: bytes) -> None:
    """What a shell would do with the sections made for it gives the disk, and its digests agree."""
    delta = lab.reader(ref)

    def plain(name: str) -> bytes:
        section = delta.header.section(name)
        assert section is not None
        raw = b"".join(delta.section_stream(section))
        return gzip.decompress(raw) if raw else b""

    disk = bytearray(old.ljust(len(new), b"\0")[: len(new)])
    changed, at = plain("frames"), 0
    for line in plain("runs").decode().splitlines():
        offset, length, kind = line.split()
        piece = changed[at : at + int(length)] if kind == "delta" else bytes(int(length))
        at += int(length) if kind == "delta" else 0
        disk[int(offset) : int(offset) + int(length)] = piece
    assert at == len(changed)
    assert bytes(disk) == new
    digests = dict(line.split() for line in plain("segments").decode().splitlines())
    for number in range(-(-len(new) // (16 << 20))):
        segment = new[number * (16 << 20) : (number + 1) * (16 << 20)]
        expected = hashlib.sha256(segment).hexdigest() if segment.strip(b"\0") else None
        assert digests.pop(str(number), None) == expected
    assert not digests
