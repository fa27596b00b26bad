"""Reads ext2, ext3 and ext4: extents, block lists, inline data, bigalloc, meta_bg, 64bit, folders with and without an index.

The layout is that of the kernel's Documentation/filesystems/ext4. Every number is checked: a block lies in the file system, an
extent follows the one before, a file has no more blocks than the file system. So each walk ends. Checksums are not compared, the
journal is not applied, an index of a folder is not used (its leaves are ordinary blocks of entries).
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.errors import BadData
from restore_core.serve.file_systems.guest_file import GuestFacts, GuestFile, Reader, Volume, pieces, read_at

_FILETYPE, _RECOVER, _META_BG, _EXTENTS, _64BIT = 0x02, 0x04, 0x10, 0x40, 0x80
_LARGE_DIR, _INLINE, _ENCRYPT = 0x4000, 0x8000, 0x10000
_KNOWN = (
    _FILETYPE | _RECOVER | _META_BG | _EXTENTS | _64BIT | 0x100 | 0x200 | 0x400 | 0x2000 | _LARGE_DIR | _INLINE | _ENCRYPT | 0x20000
)
_USES_EXTENTS, _USES_INLINE, _IS_ENCRYPTED = 0x80000, 0x10000000, 0x800
_SPECIAL = {stat.S_IFIFO: "is a FIFO", stat.S_IFSOCK: "is a socket", stat.S_IFCHR: "is a device", stat.S_IFBLK: "is a device"}
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
_MAX_LINK = 4096
_ROOT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inode:
    number: int
    mode: int
    size: int
    flags: int
    sectors: int
    facts: tuple[int, int, int, int]
    """uid, gid, links, mtime in ns."""
    raw: bytes

    @property
    def block(self) -> bytes:
        return self.raw[40:100]


class _Ext:
    """The superblock, and how inodes and blocks are found."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._super = head = read_at(reader, 1024, 1024)

        def number(at: int, form: str = "<I") -> int:
            return int(struct.unpack_from(form, head, at)[0])

        self.incompatible = number(96)
        if number(56, "<H") != 0xEF53 or number(24) > 6:
            raise BadData("the superblock is broken")
        if unknown := self.incompatible & ~_KNOWN:
            raise BadData(f"it uses features of ext4 that phd does not know (0x{unknown:x})")
        self.block_size = 1024 << number(24)
        self.blocks = number(4) | (number(0x150) << 32 if self.incompatible & _64BIT else 0)
        self._first, self._per_group, self._inodes_per_group = number(20), number(32), number(40)
        self._inodes = number(0)
        self._inode_size = number(88, "<H") if number(76) else 128
        self._descriptor = number(254, "<H") if self.incompatible & _64BIT else 32
        sizes_right = 128 <= self._inode_size <= self.block_size and 32 <= self._descriptor <= self.block_size
        if not self._per_group or not self._inodes_per_group or not sizes_right:
            raise BadData("the superblock is broken")

    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.incompatible & _RECOVER:
            notes.append("it was in use when it was backed up, and its journal is not applied: the newest changes may be missing")
        return tuple(notes)

    def inode(self, number: int) -> _Inode:
        if not 0 < number <= self._inodes:
            raise BadData(f"there is no inode {number}")
        group, index = divmod(number - 1, self._inodes_per_group)
        descriptor = read_at(self.reader, self._descriptor_at(group), self._descriptor)
        table = int(struct.unpack_from("<I", descriptor, 8)[0])
        if self._descriptor >= 64:
            table |= struct.unpack_from("<I", descriptor, 40)[0] << 32
        raw = read_at(self.reader, self.at(table) + index * self._inode_size, self._inode_size)
        mode, uid, low, mtime, gid, links, sectors, flags = struct.unpack_from("<HHI8xI4xHHII", raw)
        high, uid_high, gid_high = struct.unpack_from("<I8xHH", raw, 108)
        size: int = low | (high << 32 if stat.S_ISREG(mode) or self.incompatible & _LARGE_DIR else 0)
        facts = (uid | uid_high << 16, gid | gid_high << 16, links, self._mtime(raw, mtime))
        return _Inode(number=number, mode=mode, size=size, flags=flags, sectors=sectors, facts=facts, raw=raw)

    def _mtime(self, raw: bytes, seconds: int) -> int:
        seconds -= (seconds & 1 << 31) << 1
        if len(raw) < 140 or struct.unpack_from("<H", raw, 128)[0] < 12:
            return seconds * 10**9
        extra: int = struct.unpack_from("<I", raw, 136)[0]
        return (seconds + ((extra & 3) << 32)) * 10**9 + (extra >> 2)

    def _descriptor_at(self, group: int) -> int:
        in_block = self.block_size // self._descriptor
        number, index = divmod(group, in_block)
        first_meta: int = struct.unpack_from("<I", self._super, 260)[0]
        if not self.incompatible & _META_BG or number < first_meta:
            block = (1 if self.block_size == 1024 else 0) + number + 1
        else:
            group = number * in_block
            before = self._has_super(group) + (self.block_size == 1024 and number == 0 and self._first == 0)
            block = self._first + group * self._per_group + before
        return self.at(block) + index * self._descriptor

    def _has_super(self, group: int) -> bool:
        compatible, _, read_only = struct.unpack_from("<III", self._super, 92)
        if compatible & 0x200:
            return group in (0, *struct.unpack_from("<II", self._super, 0x24C))
        if group < 2 or not read_only & 1:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def at(self, block: int, count: int = 1) -> int:
        """Returns the offset of a block. Raises `BadData` if it, or so many from it on, are not all in the file system."""
        if block + count > self.blocks:
            raise BadData(f"block {block} of {self.blocks} is used")
        return block * self.block_size

    def runs(self, inode: _Inode) -> Iterator[tuple[int | None, int]]:
        """Yields offset (None: a hole) and length of the parts of a file, which may end early, or behind its end."""
        found = self._extents(inode.block, 0) if inode.flags & _USES_EXTENTS else self._listed(inode)
        expected = used = 0
        for logical, count, physical in found:
            if logical < expected:
                raise BadData("its extents overlap, or are in no order")
            if logical > expected:
                yield None, (logical - expected) * self.block_size
            expected = logical + count
            used += count if physical is not None else 0
            if used > self.blocks:
                raise BadData("it has more blocks than the file system")
            yield None if physical is None else self.at(physical, count), count * self.block_size

    def _extents(self, node: bytes, above: int) -> Iterator[tuple[int, int, int | None]]:
        """Yields first block, number and place of each extent. Below the root a node has entries, so that each step leads on."""
        magic, entries, _, depth = struct.unpack_from("<HHHH", node)
        if magic != 0xF30A or 12 + 12 * entries > len(node) or depth > 5 or (above and (depth != above - 1 or not entries)):
            raise BadData("its tree of extents is broken")
        for index in range(entries):
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, 12 + 12 * index)
                child = read_at(self.reader, self.at(low | high << 32), self.block_size)
                yield from self._extents(child, depth)
                continue
            logical, count, high, low = struct.unpack_from("<IHHI", node, 12 + 12 * index)
            written = count <= 0x8000
            count -= 0 if written else 0x8000
            if not count:
                raise BadData("an extent of it has no blocks")
            yield logical, count, (low | high << 32) if written else None

    def _listed(self, inode: _Inode) -> Iterator[tuple[int, int, int | None]]:
        """Yields the runs of a file with block lists: 12 blocks, then lists, lists of lists, and lists of those."""
        left = -(-inode.size // self.block_size)
        numbers = struct.unpack("<15I", inode.block)
        logical = 0
        for depth, number in [*((0, one) for one in numbers[:12]), (1, numbers[12]), (2, numbers[13]), (3, numbers[14])]:
            for count, physical in self._list(number, depth, left - logical):
                if physical:
                    yield logical, count, physical
                logical += count
            if logical >= left:
                return

    def _list(self, block: int, depth: int, left: int) -> Iterator[tuple[int, int]]:
        """Yields number and place (0: a hole) of the blocks below a list, those next to each other as one; at most `left`."""
        below: int = (self.block_size // 4) ** depth
        if left <= 0:
            return
        if not block or not depth:
            yield min(below, left), block
            return
        start = count = 0
        for number in struct.unpack(f"<{self.block_size // 4}I", read_at(self.reader, self.at(block), self.block_size)):
            for more, physical in self._list(number, depth - 1, left):
                left -= more
                if count and (physical == start + count if start else not physical):
                    count += more
                    continue
                if count:
                    yield count, start
                start, count = physical, more
        if count:
            yield count, start

    def inline(self, inode: _Inode) -> bytes:
        """Returns content that lies in the inode: 60 bytes in place of the block list, the others as an attribute."""
        if inode.size <= 60:
            return inode.block[: inode.size]
        begin = 128 + struct.unpack_from("<H", inode.raw, 128)[0] + 4 if len(inode.raw) > 130 else len(inode.raw)
        at = begin
        while at + 16 <= len(inode.raw) and any(inode.raw[at : at + 4]):
            length, index, offset, _, size = struct.unpack_from("<BBHII", inode.raw, at)
            if index == 7 and inode.raw[at + 16 : at + 16 + length] == b"data":
                return inode.block + inode.raw[begin + offset : begin + offset + size]
            at += 16 + (length + 3 & ~3)
        return inode.block


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


class _ExtFile(GuestFile):
    def __init__(self, volume: _Ext, name: str, number: int) -> None:
        self._volume = volume
        self._inode = inode = volume.inode(number)
        kind = _KINDS.get(stat.S_IFMT(inode.mode), "special")
        problem = _SPECIAL.get(stat.S_IFMT(inode.mode), "is of no known type") if kind == "special" else ""
        uid, gid, links, mtime = inode.facts
        super().__init__(
            GuestFacts(
                name=name,
                kind=kind,
                size=inode.size if kind != "folder" else 0,
                stored=min(inode.size, inode.sectors * 512) if kind == "file" else 0,
                mode=stat.S_IMODE(inode.mode),
                mtime=mtime,
                uid=uid,
                gid=gid,
                identity=number,
                links=links,
                link=self._target() if kind == "link" else "",
                problem=problem or ("is encrypted (fscrypt)" if inode.flags & _IS_ENCRYPTED else ""),
            )
        )

    def _target(self) -> str:
        inode = self._inode
        if inode.size > _MAX_LINK:
            raise BadData("a link that is longer than links are")
        fast = inode.size < 60 and not inode.flags & _USES_EXTENTS
        raw = self._volume.inline(inode) if fast or inode.flags & _USES_INLINE else self._whole()
        return raw[: inode.size].decode("utf-8", "surrogateescape")

    def _whole(self) -> bytes:
        parts = pieces(self._volume.reader, self._volume.runs(self._inode), self._inode.size)
        return b"".join(bytes(part) if isinstance(part, int) else part for part in parts)

    def data(self) -> Iterator[bytes | int]:
        if self._inode.flags & _USES_INLINE:
            found = self._volume.inline(self._inode)
            if len(found) < self._inode.size:
                raise BadData("its content in the inode is cut")
            yield found[: self._inode.size]
            return
        yield from pieces(self._volume.reader, self._volume.runs(self._inode), self._inode.size)

    def children(self) -> Iterator[GuestFile]:
        if self.facts.problem:
            raise BadData(self.facts.problem)
        for block in self._blocks():
            for number, raw in _entries(block):
                name = raw.decode("utf-8", "surrogateescape")
                try:
                    yield _ExtFile(self._volume, name, number)
                except BadData as error:
                    yield _BrokenFile(GuestFacts(name=name, kind="special", problem=error.message))

    def _blocks(self) -> Iterator[bytes]:
        if self._inode.flags & _USES_INLINE:
            whole = self._volume.inline(self._inode)
            yield whole[4:60]
            yield whole[60:]
            return
        for piece in pieces(self._volume.reader, self._volume.runs(self._inode), self._inode.size):
            if isinstance(piece, bytes):
                size = self._volume.block_size
                yield from (piece[at : at + size] for at in range(0, len(piece), size))


class _BrokenFile(GuestFile):
    def children(self) -> Iterator[GuestFile]:
        return iter(())

    def data(self) -> Iterator[bytes | int]:
        return iter(())


def _entries(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields inode and name of the entries in a block of a folder, but for `.` and `..`."""
    at = 0
    while at + 8 <= len(block):
        number, length, name_length = struct.unpack_from("<IHB", block, at)
        length = 1 << 16 if length in (0, 0xFFFF) and len(block) == 1 << 16 else length
        if length < 8 or length % 4 or at + length > len(block) or 8 + name_length > length:
            raise BadData("a block of its entries is broken")
        name = block[at + 8 : at + 8 + name_length]
        if number and name not in (b".", b".."):
            yield number, name
        at += length


def open_ext(reader: Reader) -> Volume:
    """Opens ext2, ext3 or ext4. Raises `BadData` for a broken one, or one with features that are not known."""
    volume = _Ext(reader)
    root = _ExtFile(volume, "", _ROOT)
    if root.facts.kind != "folder":
        raise BadData("its root is no folder")
    return Volume(root=root, notes=volume.notes())
