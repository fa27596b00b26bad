from __future__ import annotations

import array
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.archive.digests import BlockDigest
from restore_core.archive.index_map import (
    DELTA,
    FULL,
    ZERO,
    MapPage,
    PageEntry,
    block_size_for,
    entry_bytes,
    pack_u32,
    parse_page,
    unpack_entries,
    unpack_u32,
)
from restore_core.errors import BadArchive


def page_of(kinds: list[int]) -> tuple[bytes, PageEntry, list[bytes]]:
    digests = [hashlib.sha256(bytes([n % 256])).digest() for n, kind in enumerate(kinds) if kind != ZERO]
    lengths = array.array("I", [100 + n for n in range(kinds.count(DELTA))])
    data = bytes(kinds) + b"".join(digests) + pack_u32(lengths)
    entry = PageEntry(
        offset=0,
        length=len(data),
        zero=kinds.count(ZERO),
        full=kinds.count(FULL),
        delta=kinds.count(DELTA),
        delta_base=7,
        full_base=9,
        digest=BlockDigest.SHA256.of(data),
    )
    return data, entry, digests


def parsed(data: bytes, entry: PageEntry, blocks: int, delta_bytes: int) -> MapPage:
    return parse_page(
        data, entry=entry, first_block=0, blocks=blocks, digest=BlockDigest.SHA256, delta_bytes=delta_bytes, where="x"
    )


@given(st.lists(st.sampled_from([ZERO, FULL, DELTA]), min_size=1, max_size=50))
def test_round_trip(kinds: list[int]) -> None:
    data, entry, digests = page_of(kinds)
    lengths = [100 + n for n in range(kinds.count(DELTA))]
    page = parsed(data, entry, len(kinds), sum(lengths))
    assert page.kinds == bytes(kinds)
    assert page.delta_lengths == lengths
    assert [page.digest(n) for n, kind in enumerate(kinds) if kind != ZERO] == digests


def test_an_empty_page_is_all_zero() -> None:
    entry = PageEntry(offset=0, length=0, zero=4096, full=0, delta=0, delta_base=0, full_base=0, digest=bytes(32))
    page = parsed(b"", entry, 4096, 0)
    assert page.kinds == bytes(4096)
    with pytest.raises(BadArchive, match="not all zero"):
        parsed(b"", replace(entry, zero=4095, full=1), 4096, 0)


@pytest.mark.parametrize("change", ["digest", "counts", "kind", "lengths"])
def test_what_disagrees_is_refused(change: str) -> None:
    data, entry, _ = page_of([ZERO, FULL, DELTA, DELTA])
    fields = {name: getattr(entry, name) for name in PageEntry.__slots__}
    delta_bytes = 201
    if change == "digest":
        fields["digest"] = bytes(32)
    elif change == "counts":
        fields["zero"], fields["full"] = 0, 2
    elif change == "kind":
        data = bytes([3]) + data[1:]
        fields["digest"] = BlockDigest.SHA256.of(data)
    else:
        delta_bytes = 200
    with pytest.raises(BadArchive):
        parsed(data, PageEntry(**fields), 4, delta_bytes)
    parsed(page_of([ZERO, FULL, DELTA, DELTA])[0], entry, 4, 201)


def test_table_entries() -> None:
    entry = PageEntry(offset=1, length=2, zero=3, full=4, delta=5, delta_base=6, full_base=7, digest=b"d" * 32)
    assert len(entry.pack()) == entry_bytes(BlockDigest.SHA256) == 72
    assert unpack_entries(entry.pack() * 3, BlockDigest.SHA256) == [entry] * 3


def test_u32() -> None:
    assert pack_u32(array.array("I", [1, 1 << 31])) == b"\1\0\0\0\0\0\0\x80"
    assert unpack_u32(b"\1\0\0\0\0\0\0\x80") == [1, 1 << 31]


def test_block_sizes() -> None:
    assert block_size_for(0) == block_size_for(1 << 40) == 256 << 10
    assert block_size_for((1 << 40) + 1) == 1 << 20
