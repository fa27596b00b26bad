"""Partition tables: those of sfdisk are read as the kernel reads them; those that lie end in marks, and soon."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.errors import BadArchive
from restore_core.serve.magic_bytes import detect
from restore_core.serve.partitions import MAX_LOGICAL, read_partitions

MIB = 1 << 20


class Bytes:
    """A disk in memory that counts its reads and refuses those outside."""

    def __init__(self, data: bytes | bytearray, size: int = 0) -> None:
        self.data, self.size, self.reads = bytes(data), size or len(data), 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert 0 < length <= 8 * MIB
        assert offset + length <= self.size, "read outside of the disk"
        self.reads += 1
        assert self.reads < 5000
        return self.data[offset : offset + length].ljust(length, b"\0")


def sfdisk(path: Path, script: str, size: int = 64 * MIB) -> Bytes:
    if shutil.which("sfdisk") is None:
        pytest.skip("sfdisk is not installed (Debian package fdisk): no real partition table can be made")
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["sfdisk", "-q", str(path)], input=script.encode(), check=True, capture_output=True)
    return Bytes(path.read_bytes())


def mbr(*entries: tuple[int, int, int]) -> bytearray:
    """Type, first sector, sectors of each entry."""
    sector = bytearray(512)
    for index, (kind, start, count) in enumerate(entries):
        struct.pack_into("<4xB3xII", sector, 446 + 16 * index, kind, start, count)
    sector[510:] = b"\x55\xaa"
    return sector


def gpt(count: int = 128, size: int = 128, entries: bytes = b"", at: int = 2, *, sign: bool = True) -> bytearray:
    """A disk of 4 MiB with a protective MBR and a primary header."""
    disk = bytearray(4 * MIB)
    disk[:512] = mbr((0xEE, 1, 0xFFFFFFFF))
    table = entries.ljust(min(count * size, MIB), b"\0")
    disk[1024 : 1024 + len(table)] = table
    head = bytearray(
        struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 8191, 34, 8158, bytes(16), at, count, size, 0)
    )
    struct.pack_into("<I", head, 88, zlib.crc32(table))
    if sign:
        struct.pack_into("<I", head, 16, zlib.crc32(head))
    disk[512 : 512 + 92] = head
    return disk


def entry(first: int, last: int) -> bytes:
    return struct.pack("<16s16sQQ", b"\x01" * 16, bytes(16), first, last).ljust(128, b"\0")


def told(disk: Bytes) -> list[tuple[str, int, int]]:
    return [(one.name, one.start, one.length) for one in read_partitions(disk).partitions]


def test_a_gpt_of_sfdisk_is_read(tmp_path: Path):
    disk = sfdisk(
        tmp_path / "d", "label: gpt\nsize=10M, type=U\nsize=20M, type=L\nsize=5M, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n"
    )
    table = read_partitions(disk)
    assert table.scheme == "GPT"
    assert [(p.name, p.start, p.length, p.type) for p in table.partitions] == [
        ("p1", MIB, 10 * MIB, "EFI system"),
        ("p2", 11 * MIB, 20 * MIB, "Linux"),
        ("p3", 31 * MIB, 5 * MIB, "Linux LVM"),
    ]
    assert table.marks == ()


def test_the_backup_header_is_read_when_the_primary_is_destroyed(tmp_path: Path):
    disk = sfdisk(tmp_path / "d", "label: gpt\nsize=10M, type=L\n")
    whole = told(disk)
    disk.data = disk.data[:512] + bytes(33 * 512) + disk.data[34 * 512 :]
    assert told(disk) == whole
    assert read_partitions(disk).marks == ("the partitions are those of the backup header",)


def test_numbers_stay_those_of_the_table_when_a_partition_in_the_middle_was_deleted(tmp_path: Path):
    disk = sfdisk(tmp_path / "d", "label: gpt\n1: start=2048, size=10M, type=L\n3: start=40960, size=10M, type=L\n")
    assert [name for name, _, _ in told(disk)] == ["p1", "p3"]


def test_an_mbr_with_logical_partitions_is_read(tmp_path: Path):
    script = "label: dos\nsize=10M, type=83\nsize=40M, type=5\nstart=24576, size=5M, type=82\nstart=40960, size=5M, type=8e\n"
    table = read_partitions(sfdisk(tmp_path / "d", script))
    assert table.scheme == "MBR"
    assert [(p.name, p.start, p.length, p.type) for p in table.partitions] == [
        ("p1", MIB, 10 * MIB, "Linux"),
        ("p5", 24576 * 512, 5 * MIB, "Linux swap"),
        ("p6", 40960 * 512, 5 * MIB, "Linux LVM"),
    ]
    assert table.marks == ()


def test_a_disk_without_a_table_is_one_part():
    disk = bytearray(4 * MIB)
    disk[1080:1082] = b"\x53\xef"
    table = read_partitions(Bytes(disk))
    assert [(p.name, p.start, p.length, p.file_system) for p in table.partitions] == [("disk", 0, 4 * MIB, "ext2")]


def test_the_boot_sector_of_a_file_system_is_not_taken_for_a_table():
    disk = bytearray(4 * MIB)
    disk[:512] = mbr((0x6F, 0x20676E69, 0x74737973))
    disk[:11] = b"\xeb\x52\x90NTFS    "
    assert [(p.name, p.file_system) for p in read_partitions(Bytes(disk)).partitions] == [("disk", "NTFS")]


def test_a_disk_smaller_than_a_sector_is_one_part_of_nothing_known():
    assert told(Bytes(b"x" * 100)) == [("disk", 0, 100)]


def test_a_chain_of_logical_partitions_in_a_circle_ends_in_a_mark():
    disk = bytearray(4 * MIB)
    disk[:512] = mbr((5, 2048, 4096))
    disk[2048 * 512 : 2049 * 512] = mbr((0x83, 1, 10), (5, 0, 10))
    table = read_partitions(Bytes(disk))
    assert [p.name for p in table.partitions] == ["p5"]
    assert "circle" in table.marks[0]


def test_a_chain_of_very_many_logical_partitions_is_cut():
    disk = bytearray(4 * MIB)
    disk[:512] = mbr((5, 0, 8000))
    for sector in range(1, 1000):
        disk[sector * 512 : sector * 512 + 512] = mbr((0x83, 1, 1), (5, sector + 1, 1))
    disk[:512] = mbr((5, 1, 8000))
    table = read_partitions(Bytes(disk))
    assert len(table.partitions) == MAX_LOGICAL
    assert "longer than" in table.marks[0]


def test_a_chain_that_leaves_its_partition_or_the_disk_is_cut():
    for following in (4096, 0xFFFFFFFF):
        disk = bytearray(4 * MIB)
        disk[:512] = mbr((5, 2048, 4096))
        disk[2048 * 512 : 2049 * 512] = mbr((0x83, 1, 10), (5, following, 10))
        assert "leaves" in read_partitions(Bytes(disk)).marks[0]


def test_partitions_beyond_the_end_are_cut_or_left_out_with_a_mark():
    disk = bytearray(4 * MIB)
    disk[:512] = mbr((0x83, 2048, 0xFFFFFFFF), (0x83, 0xFFFFFFF0, 5))
    table = read_partitions(Bytes(disk))
    assert [(p.name, p.start, p.length) for p in table.partitions] == [("p1", MIB, 3 * MIB)]
    assert [mark.split(":")[0] for mark in table.marks] == ["p1 is cut", "p2 is left out"]


def test_partitions_that_overlap_are_marked():
    disk = bytearray(4 * MIB)
    disk[:512] = mbr((0x83, 100, 1000), (0x83, 200, 10), (0x83, 1050, 1000))
    assert read_partitions(Bytes(disk)).marks == ("p2 and p1 overlap", "p3 and p1 overlap")


@pytest.mark.parametrize(
    ("count", "size"), [(0xFFFFFFFF, 128), (0xFFFFFFFF, 0xFFFFFFFF), (128, 0), (0, 128), (128, 127), (1025, 128), (4, 1 << 31)]
)
def test_a_gpt_with_impossible_numbers_of_entries_is_refused_with_a_mark(count: int, size: int):
    disk = Bytes(gpt(count, size))
    table = read_partitions(disk)
    assert table.scheme == ""
    assert "entries of" in table.marks[0]
    assert disk.reads < 100


def test_a_gpt_whose_entries_lie_beyond_the_disk_is_refused_with_a_mark():
    assert "beyond the end" in read_partitions(Bytes(gpt(at=1 << 60))).marks[0]


def test_a_gpt_with_a_wrong_checksum_is_refused_with_a_mark():
    assert "checksum is wrong" in read_partitions(Bytes(gpt(sign=False))).marks[0]
    disk = gpt(entries=entry(100, 200))
    disk[1024 + 40] ^= 1
    assert "checksum of its entries" in read_partitions(Bytes(disk)).marks[0]


def test_gpt_entries_that_end_before_they_begin_or_lie_at_two_to_the_64_are_marked():
    table = read_partitions(Bytes(gpt(entries=entry(200, 100) + entry(1 << 63, (1 << 64) - 1) + entry(0, (1 << 64) - 1))))
    assert [(p.name, p.start, p.length) for p in table.partitions] == [("p3", 0, 4 * MIB)]
    assert len(table.marks) == 3


@pytest.mark.parametrize(
    ("at", "magic", "name"),
    [
        (0, b"XFSB", "XFS"),
        (3, b"NTFS    ", "NTFS"),
        (0x218 - 0x18, b"LABELONE", "LVM"),
        (4086, b"SWAPSPACE2", "swap"),
        (65600, b"_BHRfS_M", "btrfs"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (32769, b"CD001", "ISO 9660"),
        (3, b"-FVE-FS-", "BitLocker"),
    ],
)
def test_a_file_system_is_known_by_its_magic_bytes(at: int, magic: bytes, name: str):
    disk = bytearray(2 * MIB)
    disk[MIB + at : MIB + at + len(magic)] = magic
    assert detect(Bytes(disk), MIB, MIB) == name
    assert detect(Bytes(disk), MIB, at + len(magic) - 1) == "", "magic bytes behind the end of a partition are not its own"


def test_a_partition_whose_begin_is_damaged_in_the_archive_hides_no_other(tmp_path: Path):
    disk = sfdisk(tmp_path / "d", "label: gpt\nsize=10M, type=L\nsize=10M, type=L\n")

    class Damaged(Bytes):
        def read(self, offset: int, length: int) -> bytes:
            if MIB <= offset < 2 * MIB:
                raise BadArchive("block 4 is bad")
            return super().read(offset, length)

    disk.data = disk.data[: 11 * MIB] + b"XFSB" + disk.data[11 * MIB + 4 :]
    table = read_partitions(Damaged(disk.data))
    assert [(part.name, part.file_system) for part in table.partitions] == [("p1", ""), ("p2", "XFS")]
    assert table.marks == ("p1: what it holds cannot be read: block 4 is bad",)


@given(st.data())
def test_whatever_the_tables_say_reading_ends_and_every_part_lies_on_the_disk(data: st.DataObject):
    disk = gpt(entries=entry(100, 2000) + entry(3000, 4000))
    disk[446 + 16 : 446 + 32] = mbr((5, 2048, 4096))[446:462]
    disk[2048 * 512 : 2049 * 512] = mbr((0x83, 1, 10), (5, 20, 10))
    if data.draw(st.booleans()):
        disk[450] = 0x83
    places = st.sampled_from([*range(440, 512), *range(512, 604), *range(1024, 1300), *range(2048 * 512 + 440, 2049 * 512)])
    for _ in range(data.draw(st.integers(1, 6))):
        disk[data.draw(places)] = data.draw(st.integers(0, 255))
    struct.pack_into("<I", disk, 528, 0)
    struct.pack_into("<I", disk, 600, zlib.crc32(disk[1024 : 1024 + 16384]))
    struct.pack_into("<I", disk, 528, zlib.crc32(disk[512:604]))
    seen = Bytes(disk)
    for part in read_partitions(seen).partitions:
        assert 0 <= part.start < part.start + part.length <= seen.size
    assert seen.reads < 2000
