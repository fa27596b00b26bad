"""Reads FAT12, FAT16 and FAT32, with long names. The number of clusters says which it is, as Microsoft's page on it says.

A chain has no more clusters than the file system, so each walk ends. FAT keeps local times of a zone that nobody knows; they are
read as UTC. Names without a long one are in code page 437.
"""

from __future__ import annotations

import calendar
import struct
from collections.abc import Iterator

from restore_core.errors import BadData
from restore_core.serve.file_systems.guest_file import GuestFacts, GuestFile, Reader, Volume, pieces, read_at

_LONG, _LABEL, _FOLDER = 0x0F, 0x08, 0x10
_MAX_FOLDER = 65536 * 32
"""Bytes of the largest folder."""


class _Fat:
    """The numbers of the boot sector, and the chains of clusters."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        boot = read_at(reader, 0, 512)
        sector, per_cluster, reserved, copies, root_entries, total, _, size = struct.unpack_from("<HBHBHHBH", boot, 11)
        total = total or struct.unpack_from("<I", boot, 32)[0]
        size = size or struct.unpack_from("<I", boot, 36)[0]
        if sector not in (512, 1024, 2048, 4096) or per_cluster.bit_count() != 1 or not size or not reserved or not copies:
            raise BadData("the boot sector is broken")
        root_sectors = -(-root_entries * 32 // sector)
        first = reserved + copies * size + root_sectors
        if total <= first:
            raise BadData("the boot sector is broken")
        self.cluster = int(sector * per_cluster)
        self.count = (total - first) // per_cluster
        self._fat, self._data = int(reserved * sector), int(first * sector)
        self._bits = 12 if self.count < 4085 else 16 if self.count < 65525 else 32
        if self.count > size * sector * 8 // self._bits - 2:
            raise BadData("its table is smaller than its clusters need")
        self.root_cluster = struct.unpack_from("<I", boot, 44)[0] if self._bits == 32 else 0
        self.root_at, self.root_size = (reserved + copies * size) * sector, root_entries * 32

    def _next(self, cluster: int) -> int:
        """Returns the entry of a cluster in the table, -1 at the end of a chain."""
        at = self._fat + cluster * self._bits // 8
        raw = int.from_bytes(read_at(self.reader, at, 4 if self._bits == 32 else 2), "little")
        if self._bits == 12:
            raw = raw >> 4 if cluster % 2 else raw & 0xFFF
        raw &= 0x0FFFFFFF
        end = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}
        return -1 if raw >= end[self._bits] else int(raw)

    def runs(self, cluster: int, size: int) -> Iterator[tuple[int | None, int]]:
        """Yields offset and length of the parts of a chain, until `size` bytes. Raises `BadData` if it ends before."""
        left, seen = -(-size // self.cluster), 0
        start, count = cluster, 0
        while left > seen + count:
            if not 2 <= cluster < self.count + 2 or seen + count > self.count:
                raise BadData(
                    f"its chain of clusters leads to cluster {cluster} of {self.count}, or is longer than the file system"
                )
            if cluster == start + count:
                count += 1
            else:
                yield self._at(start), count * self.cluster
                seen += count
                start, count = cluster, 1
            if left > seen + count:
                cluster = self._next(cluster)
        if count:
            yield self._at(start), count * self.cluster

    def _at(self, cluster: int) -> int:
        return self._data + (cluster - 2) * self.cluster

    def folder(self, cluster: int) -> Iterator[bytes]:
        """Yields the entries of a folder, 32 bytes each; cluster 0 is the root of FAT12 and FAT16."""
        if not cluster:
            raw = read_at(self.reader, self.root_at, self.root_size)
            yield from (raw[at : at + 32] for at in range(0, len(raw), 32))
            return
        done = 0
        while cluster != -1:
            if not 2 <= cluster < self.count + 2 or done > _MAX_FOLDER:
                raise BadData("the chain of clusters of a folder leads astray, or is longer than that of a folder")
            raw = read_at(self.reader, self._at(cluster), self.cluster)
            yield from (raw[at : at + 32] for at in range(0, len(raw), 32))
            done += self.cluster
            cluster = self._next(cluster)


class _FatFile(GuestFile):
    folds = True

    def __init__(self, volume: _Fat, facts: GuestFacts, cluster: int) -> None:
        super().__init__(facts)
        self._volume, self._cluster = volume, cluster

    def children(self) -> Iterator[GuestFile]:
        long: list[tuple[int, bytes]] = []
        for entry in self._volume.folder(self._cluster):
            if not entry[0]:
                return
            if entry[0] == 0xE5:
                long = []
            elif entry[11] & 0x3F == _LONG:
                long.append((entry[13], entry[1:11] + entry[14:26] + entry[28:32]))
            else:
                name = _long_name(long, _checksum(entry)) or _short_name(entry)
                long = []
                if not entry[11] & _LABEL and name not in (".", ".."):
                    yield self._child(name, entry)

    def _child(self, name: str, entry: bytes) -> GuestFile:
        high, time, date, low, size = struct.unpack_from("<HHHHI", entry, 20)
        cluster = low | (high << 16 if self._volume.root_cluster else 0)
        folder = bool(entry[11] & _FOLDER)
        size = 0 if folder else size
        return _FatFile(
            self._volume,
            GuestFacts(
                name=name,
                kind="folder" if folder else "file",
                size=size,
                stored=size,
                mtime=_mtime(date, time),
                identity=cluster if folder else 0,
                problem="has no cluster" if folder and not cluster else "",
            ),
            cluster,
        )

    def data(self) -> Iterator[bytes | int]:
        yield from pieces(self._volume.reader, self._volume.runs(self._cluster, self.facts.size), self.facts.size)


def _checksum(entry: bytes) -> int:
    total = 0
    for byte in entry[:11]:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def _long_name(pieces_of_it: list[tuple[int, bytes]], checksum: int) -> str:
    """Returns the long name that stands before an entry, last piece first; '' if none belongs to it."""
    if not pieces_of_it or any(one != checksum for one, _ in pieces_of_it):
        return ""
    raw = b"".join(piece for _, piece in reversed(pieces_of_it))
    return raw.decode("utf-16-le", "replace").partition("\0")[0].rstrip("\uffff")


def _short_name(entry: bytes) -> str:
    base, suffix = entry[:8].replace(b"\x05", b"\xe5", 1) if entry[0] == 5 else entry[:8], entry[8:11]
    name, kind = base.decode("cp437").rstrip(" "), suffix.decode("cp437").rstrip(" ")
    name, kind = name.lower() if entry[12] & 0x08 else name, kind.lower() if entry[12] & 0x10 else kind
    return f"{name}.{kind}" if kind else name


def _mtime(date: int, time: int) -> int | None:
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    if not 1 <= month <= 12 or not day:
        return None
    return calendar.timegm((year, month, day, time >> 11, time >> 5 & 63, (time & 31) * 2)) * 10**9


def open_fat(reader: Reader) -> Volume:
    """Opens FAT12, FAT16 or FAT32. Raises `BadData` for a broken one."""
    volume = _Fat(reader)
    root = GuestFacts(name="", kind="folder", identity=volume.root_cluster)
    return Volume(root=_FatFile(volume, root, volume.root_cluster))
