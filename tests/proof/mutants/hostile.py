"""Bugs for R12: sizes and counts that an archive says are taken at their word."""

from __future__ import annotations

import zlib
from typing import Any

from restore_core.archive import delta_reader
from restore_core.archive.digests import Buffer
from restore_core.restore import pipeline


def a_frame_is_as_long_as_it_likes() -> None:
    """Memory is asked for by what the archive says."""
    setattr(delta_reader, "longest_member", lambda _plain: 1 << 40)  # noqa: B010  mypy forbids the plain form


def counts_are_believed() -> None:
    """The page table is not compared with the header."""
    setattr(delta_reader.DeltaReader, "_check_entries", lambda *_: None)  # noqa: B010  the same


def a_bomb_is_expanded() -> None:
    """A frame is decoded to its end before anybody looks how long it is."""

    def whole(member: Buffer, size: int, where: str) -> Any:
        return real(member, size, where) if len(zlib.decompress(bytes(member), 31)) == size else real(b"", size, where)

    real = pipeline.__dict__["decode"]
    setattr(pipeline, "decode", whole)  # noqa: B010  the same
