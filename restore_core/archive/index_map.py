"""The index map: for every block of the finished disk, where it comes from and its digest.

It is cut into pages of 4096 blocks, so that a disk of any size is restored in bounded memory: a page is read, checked
against the digest in the page table, used, and dropped. A page in which every block is zero takes no bytes.

    page        kinds: u8 for each block (0 zero, 1 from the Full, 2 from the Delta)
                digests: 32 bytes for each block that is not zero, in order
                frame lengths: u32 for each block from the Delta, in order
    page table  one entry of 72 bytes a page, see `PageEntry`
"""

from __future__ import annotations

import array
import struct
import sys
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from restore_core.archive.digests import DIGEST_BYTES, BlockDigest
from restore_core.errors import BadArchive

ZERO: Final = 0
FULL: Final = 1
DELTA: Final = 2
BLOCKS_PER_PAGE = 4096
BLOCK_SIZE = 256 << 10
LARGE_BLOCK_SIZE = 1 << 20
LARGE_DISK = 1 << 40
_ENTRY = struct.Struct("<QIIIIQQ32s")
ENTRY_BYTES = _ENTRY.size


def block_size_for(disk_size: int) -> int:
    """Bytes of a block: 256 KiB, and 1 MiB above 1 TiB so that the map stays near 0.01 % of the disk."""
    return BLOCK_SIZE if disk_size <= LARGE_DISK else LARGE_BLOCK_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEntry:
    """One line of the page table. Offsets and lengths are bytes.

    `offset` and `length`: the page within the map section. `delta_base`: its first frame within the frames section.
    `full_base`: the first frame of this page within the Full (0 when the Full has no frame table). `digest`: of the
    page's bytes, by the archive's block digest; 32 zero bytes for an empty page.
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
        """The entry as it stands in the page table."""
        return _ENTRY.pack(self.offset, self.length, self.zero, self.full, self.delta, self.delta_base, self.full_base, self.digest)


def unpack_entries(data: bytes) -> list[PageEntry]:
    """All entries of a page table. The length must be a multiple of `ENTRY_BYTES`."""
    return [
        PageEntry(offset=o, length=n, zero=z, full=f, delta=d, delta_base=db, full_base=fb, digest=g)
        for o, n, z, f, d, db, fb, g in _ENTRY.iter_unpack(data)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPage:
    """Up to 4096 blocks. `ranks[i]` is the number of non-zero blocks before block i of the page."""

    first_block: int
    kinds: bytes
    digests: bytes
    ranks: list[int]
    delta_lengths: list[int]
    delta_base: int
    full_base: int

    def digest(self, index: int) -> bytes:
        """The digest of the block at `index` within the page; the block must not be zero."""
        at = self.ranks[index] * DIGEST_BYTES
        return self.digests[at : at + DIGEST_BYTES]

    def content(self) -> list[bytes | None]:
        """What the page describes, wherever it comes from: the digest of each block, None for a zero one."""
        digests, ranks = self.digests, self.ranks
        return [digests[ranks[n] * 32 : ranks[n] * 32 + 32] if kind else None for n, kind in enumerate(self.kinds)]


def parse_page(
    data: bytes, *, entry: PageEntry, first_block: int, blocks: int, digest: BlockDigest, delta_bytes: int, where: str
) -> MapPage:
    """One checked page. `delta_bytes` is how many bytes of frames the page table gives to it.

    Raises `BadArchive` when digest, counts, kinds or lengths disagree with the entry.
    """
    if entry.length == 0:
        if entry.full or entry.delta:
            raise _bad(where, first_block, "it is empty, and the page table says that it is not all zero")
        return MapPage(
            first_block=first_block,
            kinds=bytes(blocks),
            digests=b"",
            ranks=[0] * (blocks + 1),
            delta_lengths=[],
            delta_base=entry.delta_base,
            full_base=entry.full_base,
        )
    if digest.of(data) != entry.digest:
        raise _bad(where, first_block, "its digest differs from the page table's")
    kinds = data[:blocks]
    counts = (kinds.count(ZERO), kinds.count(FULL), kinds.count(DELTA))
    stored = counts[1] + counts[2]
    if counts != (entry.zero, entry.full, entry.delta) or len(data) != blocks + DIGEST_BYTES * stored + 4 * counts[2]:
        raise _bad(where, first_block, "its counts differ from the page table's")
    digests_end = blocks + DIGEST_BYTES * stored
    lengths = unpack_u32(data[digests_end:])
    if sum(lengths) != delta_bytes:
        raise _bad(where, first_block, "its frames do not fill their part of the frames section")
    ranks = [0, *accumulate(map(bool, kinds))]
    return MapPage(
        first_block=first_block,
        kinds=kinds,
        digests=data[blocks:digests_end],
        ranks=ranks,
        delta_lengths=lengths,
        delta_base=entry.delta_base,
        full_base=entry.full_base,
    )


def pack_u32(values: array.array[int]) -> bytes:
    """Little-endian u32s, whatever this machine's order is."""
    if sys.byteorder == "big":
        values = array.array("I", values)
        values.byteswap()
    return values.tobytes()


def unpack_u32(data: bytes) -> list[int]:
    """The reverse of `pack_u32`; `data` must be a multiple of 4 bytes."""
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
