"""Cuts a disk into its parts: MBR with extended partitions, GPT, one file system without a table, and the volumes of LVM.

Partitions have the numbers that Linux gives them (`p1` is sda1, logical ones begin at `p5`), a disk without a table has one
part, `disk`. A logical volume is named for its physical one: `p3-root`. A table comes from a guest and may lie. What it says is
compared with the size of the disk: a partition that reaches beyond the end is cut there, one that lies outside is left out, and
both are said in `marks`. Chains and counts are limited, so every table ends. Nothing is read outside of the disk.

Not guaranteed: that a partition holds what its type says. The file system is known by the magic bytes at its start alone.
"""

from __future__ import annotations

import bisect
import itertools
import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from restore_core.errors import BadArchive
from restore_core.serve.lvm import read_logical_volumes
from restore_core.serve.magic_bytes import DiskBytes, detect, is_fat, read_within

MAX_LOGICAL = 128
"""Logical partitions that are followed; a guest's own tools make at most 60."""
MAX_ENTRIES = 1024
MAX_ENTRY_SIZE = 4096
SECTORS = (512, 4096)
_EXTENDED = {0x05, 0x0F, 0x85}
_PROTECTIVE = 0xEE

_MBR_TYPES = {
    0x01: "FAT12",
    0x04: "FAT16",
    0x06: "FAT16",
    0x07: "NTFS or exFAT",
    0x0B: "FAT32",
    0x0C: "FAT32",
    0x0E: "FAT16",
    0x27: "Windows recovery",
    0x82: "Linux swap",
    0x83: "Linux",
    0x8E: "Linux LVM",
    0xA5: "FreeBSD",
    0xEF: "EFI system",
    0xFB: "VMFS",
    0xFD: "Linux RAID",
}
_GPT_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux boot",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "aa31e02a-400f-11db-9590-000c2911d1b8": "VMFS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One part of a disk; `start` and `length` in bytes. `file_system` is '' where none is known.

    The `segments` of a logical volume are the (offset, length) on the disk of its parts, in order.
    """

    name: str
    start: int
    length: int
    type: str
    file_system: str = ""
    segments: tuple[tuple[int, int], ...] = ()


class PartBytes:
    """The bytes of one part of a disk, from 0 on: itself a `DiskBytes`."""

    def __init__(self, disk: DiskBytes, part: Partition) -> None:
        self._disk, self.size = disk, part.length
        self._segments = part.segments or ((part.start, part.length),)
        self._begins = [0, *itertools.accumulate(length for _, length in self._segments)]

    def read(self, offset: int, length: int) -> bytes:
        """Returns bytes of the part, all within `size`."""
        found: list[bytes] = []
        index = bisect.bisect_right(self._begins, offset) - 1
        while length:
            start, whole = self._segments[index]
            within = offset - self._begins[index]
            count = min(length, whole - within)
            found.append(self._disk.read(start + within, count))
            offset, length, index = offset + count, length - count, index + 1
        return b"".join(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTable:
    """What a disk is cut into. `marks` say what in the table cannot be true, a sentence each."""

    scheme: str
    partitions: tuple[Partition, ...]
    marks: tuple[str, ...] = ()

    def find(self, name: str) -> Partition | None:
        """Returns the partition of that name."""
        return next((one for one in self.partitions if one.name == name), None)


def read_partitions(disk: DiskBytes) -> PartitionTable:
    """Reads the table of a disk and what each partition holds. Raises only what `disk.read` raises.

    A partition whose begin is damaged in the archive hides no other: it is marked.
    """
    table = _read_table(disk)
    found, marks = list[Partition](), list(table.marks)
    for one in table.partitions:
        try:
            known, said = _looked_into(disk, one)
        except BadArchive as error:
            known, said = [one], [f"what it holds cannot be read: {error.message}"]
        found += known
        marks += [f"{one.name}: {mark}" for mark in said]
    return replace(table, partitions=tuple(found), marks=tuple(marks))


def _looked_into(disk: DiskBytes, part: Partition) -> tuple[list[Partition], list[str]]:
    """Returns the partition with its file system, and the logical volumes in it."""
    known = replace(part, file_system=detect(disk, part.start, part.length))
    if known.file_system != "LVM":
        return [known], []
    volumes, marks = _logical_volumes(disk, known)
    return [known, *volumes], marks


def _logical_volumes(disk: DiskBytes, physical: Partition) -> tuple[list[Partition], list[str]]:
    """Returns the logical volumes in a partition, as parts of the disk, and marks for those that are not read."""
    inside = PartBytes(disk, physical)
    volumes, marks = read_logical_volumes(inside.read(0, min(2048, inside.size)), inside.read, inside.size)
    found = []
    for volume in volumes:
        segments = tuple((physical.start + start, length) for start, length in volume.segments)
        kind, length = f"LVM {volume.group}/{volume.name}", sum(length for _, length in segments)
        name = f"{physical.name}-{volume.name}"
        part = Partition(name=name, start=segments[0][0], length=length, type=kind, segments=segments)
        found.append(replace(part, file_system=detect(PartBytes(disk, part), 0, length)))
    return found, marks


def _read_table(disk: DiskBytes) -> PartitionTable:
    first = read_within(disk, 0, 512)
    has_mbr = first[510:512] == b"\x55\xaa" and not is_fat(first) and first[3:11] not in (b"NTFS    ", b"EXFAT   ", b"ReFS\0\0\0\0")
    entries = list(_mbr_entries(first)) if has_mbr else []
    marks: tuple[str, ...] = ()
    if not has_mbr or any(kind == _PROTECTIVE for _, kind, _, _ in entries):
        gpt = _read_gpt(disk)
        if gpt.partitions or gpt.scheme:
            return gpt
        marks = gpt.marks
    entries = [each for each in entries if each[1] != _PROTECTIVE]
    if entries:
        return _checked(disk, "MBR", _mbr_partitions(disk, entries), marks)
    whole = Partition(name="disk", start=0, length=disk.size, type="whole disk")
    return PartitionTable(scheme="", partitions=(whole,), marks=marks)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A partition as its table says; nothing in it is checked."""

    number: int
    start: int
    length: int
    type: str


def _mbr_entries(sector: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, type, first sector and sectors of the used entries."""
    for number in range(4):
        kind, start, count = struct.unpack_from("<4xB3xII", sector, 446 + 16 * number)
        if kind and count:
            yield number + 1, kind, start, count


def _mbr_partitions(disk: DiskBytes, entries: list[tuple[int, int, int, int]]) -> Iterator[_Raw | str]:
    for number, kind, start, count in entries:
        if kind not in _EXTENDED:
            yield _Raw(number, start * 512, count * 512, _MBR_TYPES.get(kind, f"type {kind:02X}"))
    extended = [(start, count) for _, kind, start, count in entries if kind in _EXTENDED]
    if len(extended) > 1:
        yield f"there are {len(extended)} extended partitions; only the first is read"
    for start, count in extended[:1]:
        yield from _logical(disk, start, count)


def _logical(disk: DiskBytes, first: int, count: int) -> Iterator[_Raw | str]:
    """Follows the chain of an extended partition, which begins at sector `first`."""
    seen: set[int] = set()
    here, number = first, 5
    while True:
        if here in seen or len(seen) == MAX_LOGICAL:
            yield f"the chain of logical partitions leads in a circle, or is longer than {MAX_LOGICAL}; it is cut there"
            return
        seen.add(here)
        sector = read_within(disk, here * 512, 512)
        if sector[510:512] != b"\x55\xaa":
            yield f"the chain of logical partitions is broken at sector {here}"
            return
        following = None
        for _, kind, start, length in _mbr_entries(sector):
            if kind in _EXTENDED:
                following = start if following is None else following
            else:
                yield _Raw(number, (here + start) * 512, length * 512, _MBR_TYPES.get(kind, f"type {kind:02X}"))
                number += 1
        if following is None:
            return
        if following >= count:
            yield f"the chain of logical partitions leaves its extended partition after p{number - 1}; it is cut there"
            return
        here = first + following


def _read_gpt(disk: DiskBytes) -> PartitionTable:
    """Reads the first header that is right, of both places and both sizes of sectors. Without one `scheme` is ''."""
    marks: list[str] = []
    for sector in SECTORS:
        for where, offset in (("primary", sector), ("backup", disk.size - disk.size % sector - sector)):
            head = read_within(disk, offset, sector)
            if head[:8] != b"EFI PART" or len(head) < 92:
                continue
            entries = _gpt_entries(disk, head, sector)
            if isinstance(entries, str):
                marks.append(f"the {where} GPT header is not used: {entries}")
                continue
            marks += [f"the partitions are those of the {where} header"] if where == "backup" else []
            return _checked(disk, "GPT", _gpt_partitions(entries, sector), tuple(marks))
    return PartitionTable(scheme="", partitions=(), marks=tuple(marks))


def _gpt_entries(disk: DiskBytes, head: bytes, sector: int) -> list[bytes] | str:
    """Returns the entries of a GPT header, or why it cannot be right."""
    size, crc = struct.unpack_from("<II", head, 12)
    at, count, each, entries_crc = struct.unpack_from("<QIII", head, 72)
    if not 92 <= size <= len(head) or zlib.crc32(head[:16] + bytes(4) + head[20:size]) != crc:
        return "its checksum is wrong"
    if not 0 < count <= MAX_ENTRIES or not 128 <= each <= MAX_ENTRY_SIZE or each % 8:
        return f"it says {count} entries of {each} bytes (at most {MAX_ENTRIES} of 128 to {MAX_ENTRY_SIZE} are read)"
    if at * sector + count * each > disk.size:
        return "its entries would lie beyond the end of the disk"
    table = read_within(disk, at * sector, count * each)
    if zlib.crc32(table) != entries_crc:
        return "the checksum of its entries is wrong"
    return [table[each * index : each * index + 128] for index in range(count)]


def _gpt_partitions(entries: list[bytes], sector: int) -> Iterator[_Raw | str]:
    for number, entry in enumerate(entries, 1):
        if not any(entry[:16]):
            continue
        kind = str(uuid.UUID(bytes_le=entry[:16]))
        first, last = struct.unpack_from("<QQ", entry, 32)
        if last < first:
            yield f"p{number} is left out: it ends before it begins"
        else:
            yield _Raw(number, first * sector, (last - first + 1) * sector, _GPT_TYPES.get(kind, kind))


def _checked(disk: DiskBytes, scheme: str, found: Iterator[_Raw | str], marks: tuple[str, ...]) -> PartitionTable:
    """Compares the partitions with the disk and with each other."""
    said, kept = list(marks), list[Partition]()
    for one in found:
        if isinstance(one, str):
            said.append(one)
            continue
        length = min(one.length, disk.size - one.start)
        if length <= 0:
            said.append(f"p{one.number} is left out: it begins at byte {one.start}, and the disk has {disk.size}")
            continue
        if length < one.length:
            said.append(f"p{one.number} is cut: it would end at byte {one.start + one.length}, and the disk has {disk.size}")
        kept.append(Partition(name=f"p{one.number}", start=one.start, length=length, type=one.type))
    kept.sort(key=lambda part: part.start)
    reach, holder = 0, ""
    for part in kept:
        if part.start < reach:
            said.append(f"{part.name} and {holder} overlap")
        if part.start + part.length > reach:
            reach, holder = part.start + part.length, part.name
    kept.sort(key=lambda part: int(part.name[1:]))
    return PartitionTable(scheme=scheme, partitions=tuple(kept), marks=tuple(said))
