"""Bugs for R10 and R11: what is read is believed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

from restore_core.archive import delta_reader, full_reader
from restore_core.archive.digests import Buffer
from restore_core.archive.frames import plain_stream
from restore_core.archive.header import DeltaHeader, parse_head
from restore_core.errors import BadArchive
from restore_core.restore import pipeline, verify
from restore_core.targets.base import ArchiveRef


def verify_skips_the_blocks() -> None:
    setattr(verify, "_check_blocks", lambda *_: None)  # noqa: B010  mypy forbids the plain form
    setattr(verify, "_check_whole", lambda *_: None)  # noqa: B010  the same
    setattr(verify, "_check_rest", lambda *_: None)  # noqa: B010  the same


def _inflate_only(data: Buffer, size: int, where: str) -> bytes:
    """Deflate without a look at the CRC, padded to the expected size."""
    del where
    engine = zlib.decompressobj(-15)
    try:
        plain = engine.decompress(bytes(data)[10:], size)
    except zlib.error:
        plain = b""
    return plain.ljust(size, b"\0")


def writes_unchecked_blocks() -> None:
    setattr(pipeline, "decode", _inflate_only)  # noqa: B010  mypy forbids the plain form
    setattr(pipeline, "check_block", lambda *_: None)  # noqa: B010  the same


def the_end_of_the_bytes_is_the_end_of_the_disk() -> None:
    """A gzip that ends early is taken for a shorter one."""

    def until_it_ends(chunks: Iterator[bytes], ref: ArchiveRef) -> Iterator[bytes]:
        try:
            yield from plain_stream(chunks, ref)
        except BadArchive as error:
            if "ends early" not in error.message:
                raise

    setattr(full_reader, "plain_stream", until_it_ends)  # noqa: B010  mypy forbids the plain form


class _AnyLength(int):
    """Differs from nothing."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def any_length_will_do() -> None:
    """The length of a Delta is not compared with what its header says."""

    def believed(head: bytes, where: str) -> DeltaHeader:
        header = parse_head(head, where)
        return replace(header, file_size=_AnyLength(header.file_size))

    setattr(delta_reader, "parse_head", believed)  # noqa: B010  the same
