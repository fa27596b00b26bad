"""Knows what lies in a part of a disk by the magic bytes at its start."""

from __future__ import annotations

import struct
from typing import Protocol

_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("XFS", 0, b"XFSB"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("ReFS", 3, b"ReFS\0\0\0\0"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM", 0x200, b"LABELONE"),
    ("LVM", 0, b"LABELONE"),
    ("LVM", 0x400, b"LABELONE"),
    ("LVM", 0x600, b"LABELONE"),
    ("squashfs", 0, b"hsqs"),
    ("APFS", 32, b"NXSB"),
    ("HFS+", 1024, b"H+\0\x04"),
    ("HFS+", 1024, b"HX\0\x05"),
    ("F2FS", 1024, b"\x10\x20\xf5\xf2"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("RAID", 4096, b"\xfc\x4e\x2b\xa9"),
    ("ISO 9660", 32769, b"CD001"),
    ("ReiserFS", 65588, b"ReIsEr"),
    ("btrfs", 65600, b"_BHRfS_M"),
    ("VMFS", 1 << 20, b"\x0d\xd0\x01\xc0"),
)


class DiskBytes(Protocol):
    """A disk that can be read at any place. `read` returns exactly the bytes asked for, all within `size`."""

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes at `offset`. Raises a typed error where they cannot be had."""
        ...


def read_within(disk: DiskBytes, offset: int, length: int) -> bytes:
    """Reads what of a range lies on the disk."""
    length = max(0, min(length, disk.size - offset))
    return disk.read(offset, length) if length and offset >= 0 else b""


def detect(disk: DiskBytes, start: int, length: int) -> str:
    """Returns the name of the file system, or of what else is known to lie there, by its magic bytes; '' for none."""
    head = read_within(disk, start, min(length, 8192))
    if name := _ext(head) or is_fat(head):
        return name
    for name, offset, magic in _MAGIC:
        if offset + len(magic) > length:
            continue
        end = offset + len(magic)
        if (head[offset:end] if end <= len(head) else read_within(disk, start + offset, len(magic))) == magic:
            return name
    return ""


def _ext(head: bytes) -> str:
    if head[1080:1082] != b"\x53\xef" or len(head) < 2048:
        return ""
    compatible, incompatible, read_only = struct.unpack_from("<III", head, 1024 + 92)
    if incompatible & 0x08:
        return "ext journal"
    if incompatible & ~0x16 or read_only & ~0x07:
        return "ext4"
    return "ext3" if compatible & 0x04 else "ext2"


def is_fat(head: bytes) -> str:
    """Returns the name of FAT, or ''. It has no magic number: the text of `mkfs` and plausible numbers stand for one."""
    if head[510:512] != b"\x55\xaa" or head[0] not in (0xEB, 0xE9):
        return ""
    sector, cluster, reserved, copies = struct.unpack_from("<HBHB", head, 11)
    if sector not in (512, 1024, 2048, 4096) or cluster.bit_count() != 1 or not reserved or copies not in (1, 2):
        return ""
    if head[82:87] == b"FAT32":
        return "FAT32"
    return next((name for name in ("FAT12", "FAT16") if head[54:59] == name.encode()), "FAT" if head[54:57] == b"FAT" else "")
