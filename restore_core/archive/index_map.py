"""The index map: for every block of the finished disk, where it comes from and its digest.

The map is cut into pages of 4096 blocks, so that a disk of any size is restored in bounded memory: a page is read, checked
against its digest in the page table, used, and dropped. A page in which every block is zero takes no bytes.

    page        kinds: u8 for each block (0 zero, 1 from the Full, 2 from the Delta)
                digests: one for each block that is not zero, in order
                frame lengths: u32 for each block from the Delta, in order
    page table  one entry of 40 bytes and a digest for each page, see `PageEntry`
"""

from __future__ import annotations

import array
import struct
import sys
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from restore_core.archive.digests import BlockDigest
from restore_core.errors import BadArchive

ZERO: Final = 0
FULL: Final = 1
DELTA: Final = 2
BLOCKS_PER_PAGE = 4096
BLOCK_SIZE = 256 << 10
LARGE_BLOCK_SIZE = 1 << 20
LARGE_DISK = 1 << 40
_ENTRY = "<QIIIIQQ{}s"


def block_size_for(disk_size: int) -> int:
    """Returns the bytes of a block: 256 KiB, and 1 MiB above 1 TiB so that the map stays near 0.01 % of the disk."""
    return BLOCK_SIZE if disk_size <= LARGE_DISK else LARGE_BLOCK_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEntry:
    """One entry of the page table. Offsets and lengths are bytes.

    `offset` and `length` locate the page within the map section. `delta_base` is the offset of its first frame within the
    frames section, `full_base` that of its first frame within the Full (0 when the Full has no frame table). `digest` is the
    block digest of the page's bytes, zeros for an empty page.
    """

    offset: int
    length: int
    zero: int
    full: int
    delta: int
    delta_base: int
    full_base: int
    digest: bytes

    def pack(self) -> bytes:
        """Returns the bytes of the entry in the page table."""
        return struct.pack(
            _ENTRY.format(len(self.digest)),
            *(self.offset, self.length, self.zero, self.full, self.delta, self.delta_base, self.full_base, self.digest),
        )


def entry_bytes(digest: BlockDigest) -> int:
    """Returns the bytes of one entry of the page table: 72 for a digest of 32 bytes."""
    return struct.calcsize(_ENTRY.format(digest.size))


def unpack_entries(data: bytes, digest: BlockDigest) -> list[PageEntry]:
    """Returns all entries of a page table. The length must be a multiple of `entry_bytes`."""
    return [
        PageEntry(offset=o, length=n, zero=z, full=f, delta=d, delta_base=db, full_base=fb, digest=g)
        for o, n, z, f, d, db, fb, g in struct.iter_unpack(_ENTRY.format(digest.size), data)
    ]


def totals_of(entries: list[PageEntry]) -> tuple[int, int, int]:
    """Returns how many blocks of a disk are zero, from the Full, and from the Delta."""
    return sum(entry.zero for entry in entries), sum(entry.full for entry in entries), sum(entry.delta for entry in entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPage:
    """Up to 4096 blocks. `ranks[i]` is the number of non-zero blocks before block i; `digests` has `digest_size` bytes for each."""

    first_block: int
    kinds: bytes
    digests: bytes
    digest_size: int
    ranks: list[int]
    delta_lengths: list[int]
    delta_base: int
    full_base: int

    def digest(self, index: int) -> bytes:
        """Returns the digest of the block at `index` within the page; the block must not be zero."""
        at = self.ranks[index] * self.digest_size
        return self.digests[at : at + self.digest_size]

    def content(self) -> list[bytes | None]:
        """Returns the digest of each block, wherever it comes from; None for a zero one."""
        digests, ranks, size = self.digests, self.ranks, self.digest_size
        return [digests[ranks[n] * size : (ranks[n] + 1) * size] if kind else None for n, kind in enumerate(self.kinds)]


def parse_page(
    data: bytes, *, entry: PageEntry, first_block: int, blocks: int, digest: BlockDigest, delta_bytes: int, where: str
) -> MapPage:
    """Returns one checked page. `delta_bytes` is how many bytes of frames the page table gives to it.

    Raises `BadArchive` when digest, counts, kinds or lengths disagree with the entry.
    """
    if entry.length == 0:
        if entry.full or entry.delta:
            raise _bad(where, first_block, "it is empty, and the page table says that it is not all zero")
        data = bytes(blocks)
    elif digest.of(data) != entry.digest:
        raise _bad(where, first_block, "its digest differs from the page table's")
    kinds = data[:blocks]
    counts = (kinds.count(ZERO), kinds.count(FULL), kinds.count(DELTA))
    digests_end = blocks + digest.size * (counts[FULL] + counts[DELTA])
    if counts != (entry.zero, entry.full, entry.delta) or len(data) != digests_end + 4 * counts[DELTA]:
        raise _bad(where, first_block, "its counts differ from the page table's")
    lengths = unpack_u32(data[digests_end:])
    if entry.length and sum(lengths) != delta_bytes:
        raise _bad(where, first_block, "its frames do not fill their part of the frames section")
    return MapPage(
        first_block=first_block,
        kinds=kinds,
        digests=data[blocks:digests_end],
        digest_size=digest.size,
        ranks=[0, *accumulate(map(bool, kinds))],
        delta_lengths=lengths,
        delta_base=entry.delta_base,
        full_base=entry.full_base,
    )


def pack_u32(values: array.array[int]) -> bytes:
    """Returns little-endian u32s, whatever the byte order of this machine is."""
    if sys.byteorder == "big":
        values = array.array("I", values)
        values.byteswap()
    return values.tobytes()


def unpack_u32(data: bytes) -> list[int]:
    """Returns the numbers that `pack_u32` packed; `data` must be a multiple of 4 bytes."""
    values = array.array("I")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _bad(where: str, first_block: int, why: str) -> BadArchive:
    return BadArchive(
        f"{where}: section map, page of block {first_block}: {why}",
        remedy="The Delta is damaged; use another copy or another backup.",
    )
