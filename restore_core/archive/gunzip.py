"""Any gzip a user has, as a stream of plain bytes: one member or many, `gzip -9`, pigz, bgzip, zero padding at the end.

Bounded: at most `CHUNK` bytes come out of one call, whatever the input claims. The CRC and length of every member are
checked by the decoder; a stream that ends early or is followed by anything but members and zeros raises `BadArchive`.
"""

from __future__ import annotations

from collections.abc import Iterator

from isal import igzip_lib

from restore_core.archive.frames import GZIP_MAGIC
from restore_core.errors import BadArchive
from restore_core.targets.base import ArchiveRef

CHUNK = 1 << 20


def plain_stream(chunks: Iterator[bytes], ref: ArchiveRef) -> Iterator[bytes]:
    """The plain bytes of a gzip file whose compressed bytes come in `chunks`."""
    data = b""
    members = 0
    while data := data or next(chunks, b""):
        if members and not data.strip(b"\0"):
            data = b""  # zero padding, as tapes and block devices leave it; only padding may follow
            _only_padding(chunks, ref)
            return
        if members:
            data = _next_member(data, chunks, ref, members)
        decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = next(chunks, b"")
                if not data:
                    raise BadArchive(f"{ref}: the gzip stream ends early", remedy="The file is truncated; use another copy.")
            try:
                plain = decoder.decompress(data, CHUNK)
            except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub declares an instance, not a class
                raise _damaged(ref, members, str(error)) from error
            data = b""
            if plain:
                yield plain
        data = decoder.unused_data
        members += 1
    if not members:
        raise BadArchive(f"{ref}: the file is empty", remedy="The file is truncated; use another copy.")


def _next_member(data: bytes, chunks: Iterator[bytes], ref: ArchiveRef, members: int) -> bytes:
    """What follows a member, if it begins another one."""
    data = data if len(data) > 1 else data + next(chunks, b"")
    if data[:2] != GZIP_MAGIC:
        raise _damaged(ref, members, "neither another member nor zero padding")
    return data


def _only_padding(chunks: Iterator[bytes], ref: ArchiveRef) -> None:
    for data in chunks:
        if data.strip(b"\0"):
            raise _damaged(ref, 0, "data after the zero padding")


def _damaged(ref: ArchiveRef, member: int, why: str) -> BadArchive:
    return BadArchive(f"{ref}: gzip member {member + 1}: {why}", remedy="The archive is damaged; use another copy.")
