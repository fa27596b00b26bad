"""Bugs for R10 and R11: what is read is believed."""

from __future__ import annotations

import zlib

from restore_core.archive.digests import Buffer
from restore_core.restore import pipeline, verify


def verify_skips_the_blocks() -> None:
    setattr(verify, "_check_blocks", lambda *_: None)  # noqa: B010  mypy forbids the plain form
    setattr(verify, "_check_whole", lambda *_: None)  # noqa: B010  the same


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
