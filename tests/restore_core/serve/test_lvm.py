"""Logical volumes are found where LVM's text says that they are; text that lies ends in a mark."""

from __future__ import annotations

import random

import pytest

from restore_core.serve.lvm import read_logical_volumes
from restore_core.serve.partitions import PartBytes, Partition, read_partitions
from tests.guest_disk import MIB, lvm_head, lvm_text

SIZE = 64 * MIB


class Memory:
    """The first bytes of a disk of `SIZE`; the others are zero."""

    size = SIZE

    def __init__(self, head: bytes) -> None:
        self._head = head

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size, "read outside of the disk"
        return self._head[offset : offset + length].ljust(length, b"\0")


def volumes(head: bytes | bytearray) -> tuple[list[tuple[str, tuple[tuple[int, int], ...]]], list[str]]:
    memory = Memory(bytes(head))
    found, marks = read_logical_volumes(memory.read(0, 2048), memory.read, SIZE)
    return [(f"{one.group}/{one.name}", one.segments) for one in found], marks


@pytest.mark.parametrize("at", [512, 5000, MIB - 4096 - 300])
def test_linear_volumes_are_found_wherever_in_its_ring_the_text_lies(at: int):
    head = lvm_head(lvm_text({"root": [(30, 10), (5, 12)], "swap_1": [(0, 5)]}), at=at)
    root = ((31 * MIB, 10 * MIB), (6 * MIB, 12 * MIB))
    assert volumes(head) == ([("vg0/root", root), ("vg0/swap_1", ((MIB, 5 * MIB),))], [])


def test_they_are_parts_of_the_disk_with_names_of_their_own():
    disk = Memory(bytes(lvm_head(lvm_text({"root": [(30, 10), (5, 12)]}))))
    table = read_partitions(disk)
    assert [(part.name, part.type, part.length) for part in table.partitions] == [
        ("disk", "whole disk", SIZE),
        ("disk-root", "LVM vg0/root", 22 * MIB),
    ]


def test_a_part_of_several_segments_is_read_across_their_borders():
    data = random.Random(1).randbytes(100)

    class Small(Memory):
        size = 100

    part = Partition(name="x", start=0, length=30, type="", segments=((50, 10), (0, 5), (80, 15)))
    whole = data[50:60] + data[:5] + data[80:95]
    view = PartBytes(Small(data), part)
    for begin in range(30):
        for end in range(begin, 31):
            assert view.read(begin, end - begin) == whole[begin:end]


_THIN = 'status = ["READ", "VISIBLE"]\nsegment_count = 1\nsegment1 {\nstart_extent = 0\nextent_count = 1\ntype = "thin"\n}'
_FAR = _THIN.replace('"thin"', '"striped"\nstripe_count = 1\nstripes = ["pv1", 0]')
_STRIPES = _THIN.replace('"thin"', '"striped"\nstripe_count = 2\nstripes = ["pv0", 0, "pv0", 5]')
_OUTSIDE = _THIN.replace('"thin"', '"striped"\nstripe_count = 1\nstripes = ["pv0", 63]')
_NEGATIVE = _THIN.replace('"thin"', '"striped"\nstripe_count = 1\nstripes = ["pv0", -9]')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_THIN, "of the kind thin"),
        (_FAR, "on another disk"),
        (_STRIPES, "it is striped"),
        (_OUTSIDE, "outside of the disk"),
        (_NEGATIVE, "outside of the disk"),
        (_THIN.replace("segment_count = 1", "segment_count = 99999999"), "99999999 segments"),
    ],
)
def test_volumes_that_cannot_be_read_are_named_with_the_reason(text: str, why: str):
    found, marks = volumes(lvm_head(lvm_text({"root": [(0, 5)]}, odd=text)))
    assert [name for name, _ in found] == ["vg0/root"]
    assert marks[0].startswith("the logical volume vg0/odd is not read")
    assert why in marks[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vg0 {",
        "vg0 = [",
        "vg0 {\n" * 500,
        "x" * 5000,
        "vg0 { extent_size = 0 }",
        'vg0 { extent_size = "x" }',
        "= = =",
        "vg0 { a [ }",
    ],
)
def test_text_that_is_none_ends_in_a_mark(text: str):
    found, marks = volumes(lvm_head(text))
    assert found == []
    assert "metadata cannot be read" in marks[0]


def test_flipped_bytes_end_in_volumes_on_the_disk_or_in_marks():
    good = lvm_head(lvm_text({"root": [(30, 10), (5, 12)]}))
    rng = random.Random(5)
    for _ in range(300):
        head = bytearray(good)
        head[rng.choice([rng.randrange(512, 660), rng.randrange(4096, 4200), rng.randrange(4608, 5400)])] = rng.randrange(256)
        found, marks = volumes(head)
        assert found or marks
        for _, segments in found:
            assert all(0 <= start <= start + length <= SIZE for start, length in segments)


def test_text_that_was_changed_with_its_checksum_ends_so_too():
    text = lvm_text({"root": [(30, 10), (5, 12)]})
    rng = random.Random(6)
    for _ in range(100):
        at = rng.randrange(len(text))
        found, _ = volumes(lvm_head(text[:at] + rng.choice('{}[]="#9-\n') + text[at + 1 :]))
        for _, segments in found:
            assert all(0 <= start <= start + length <= SIZE for start, length in segments)
