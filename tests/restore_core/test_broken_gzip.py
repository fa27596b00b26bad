"""Gzip members that are not what they should be: streams of foreign gzips, and single frames."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from isal import igzip_lib

from restore_core.archive.digests import Buffer
from restore_core.archive.frames import decode, plain_stream
from restore_core.archive.inflate import _by_isal, inflate_member
from restore_core.errors import BadArchive
from restore_core.targets.base import LOCAL, ArchiveRef

REF = ArchiveRef(target=LOCAL, path="/x.gz")


@pytest.mark.parametrize("junk", [b"j", b"junk\n", b"\x1fX", b"x" * 5000])
@pytest.mark.parametrize("cut", [1, 100, 1 << 20])
def test_junk_behind_the_last_member_is_not_called_truncated(junk: bytes, cut: int) -> None:
    data = gzip.compress(b"a" * 3000) + gzip.compress(b"b" * 3000) + junk
    pieces = iter([data[at : at + cut] for at in range(0, len(data), cut)])
    with pytest.raises(BadArchive, match="gzip member 3: neither another member nor zero padding"):
        list(plain_stream(pieces, REF))


def test_a_member_cut_short_still_is() -> None:
    data = gzip.compress(b"a" * 3000) + gzip.compress(b"b" * 3000)[:7]
    with pytest.raises(BadArchive, match="ends early"):
        list(plain_stream(iter([data]), REF))


def test_many_small_members_are_not_copied_again_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder copies what follows its member: a frame of 1 MiB with 50,000 empty members took 6 seconds of processor time."""
    given: list[int] = []
    real = igzip_lib.IgzipDecompressor

    class Counting:
        def __init__(self, flag: int) -> None:
            self._real = real(flag=flag)

        def decompress(self, data: bytes, most: int) -> bytes:
            given.append(len(data))
            return self._real.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr(igzip_lib, "IgzipDecompressor", Counting)
    empty, last = gzip.compress(b""), gzip.compress(PLAIN)
    assert decode(empty * 8000 + last, len(PLAIN), "here") == PLAIN
    assert len(given) >= 8001
    assert sum(given) < len(given) * (48 << 10)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_flags_that_are_not_known_are_refused_wherever_the_bytes_are_cut(cut: int) -> None:
    data = gzip.compress(PLAIN) + member(0x80)
    with pytest.raises(BadArchive, match="flags are not those of a gzip"):
        list(plain_stream(iter([data[at : at + cut] for at in range(0, len(data), cut)]), REF))


PLAIN = b"a block" * 300


def member(flags: int = 0, names: bytes = b"", *, crc: int = zlib.crc32(PLAIN), size: int = len(PLAIN)) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    stream = packer.compress(PLAIN) + packer.flush()
    head = struct.pack("<2sBBIBB", b"\x1f\x8b", 8, flags, 0, 0, 255) + names
    if flags & 2:
        head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    return head + stream + struct.pack("<II", crc, size)


@pytest.mark.parametrize(
    ("flags", "names"),
    [(0, b""), (1, b""), (4, b"\x03\0abc"), (8, b"name\0"), (16, b"comment\0"), (2, b""), (31, b"\x01\0xname\0comment\0")],
)
def test_a_frame_may_have_every_field_of_the_standard(flags: int, names: bytes) -> None:
    assert decode(member(flags, names), len(PLAIN), "here") == PLAIN
    assert decode(memoryview(member(flags, names)), len(PLAIN), "here") == PLAIN


@pytest.mark.parametrize(
    "wrong",
    [
        member(crc=1),
        member(size=1),
        member(2)[:10] + b"xx" + member(2)[12:],  # the CRC of the head
        member(8, b"a name that does not end")[:40],
        member(32),
        member(4, b"\xff\xffabc"),
        b"\0" + member()[1:],
        member()[:2] + b"\x07" + member()[3:],
        member() + b"junk",
        member()[:-8] + b"junk" + member()[-8:],
        member() + member()[-8:],
        member() + b"junk" + member()[-8:],
        member()[:-9],
        member()[:9],
        b"",
    ],
)
def test_a_frame_that_gzip_refuses_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadArchive, match=r"^here: frame "):
        decode(wrong, len(PLAIN), "here")


@pytest.mark.parametrize("inflate", [inflate_member, _by_isal])
def test_a_member_ends_where_its_data_end(inflate: Callable[[Buffer, int], bytes | bytearray | None]) -> None:
    good = member()
    for held in (good, bytearray(good), memoryview(good), memoryview(bytearray(b"x" + good))[1:]):
        assert inflate(held, len(PLAIN)) == PLAIN
    wrong = [good[:-8] + b"between" + good[-8:], good + b"x", good[:-1], good + good, good[:-8] + good[-8:] * 2, b"", b"\0" * 30]
    assert [inflate(bytes(one), len(PLAIN)) for one in wrong] == [None] * len(wrong)
    assert [inflate(good, size) for size in (len(PLAIN) - 1, len(PLAIN) + 1)] == [None, None]


def test_threads_inflate_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(map(bytes, filter(None, pool.map(lambda _: inflate_member(member(), len(PLAIN)), range(400))))) == {PLAIN}


def test_the_library_in_the_package_tells_where_a_member_ends() -> None:
    assert inflate_member is not _by_isal  # else frames are decoded more slowly: this build of the package 'deflate' hides it
