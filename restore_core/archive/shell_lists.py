"""The two sections for ordinary tools: gzipped text, so that a shell with `gzip`, `dd` and `sha256sum` can use them.

segments   "INDEX SHA256" for each 16 MiB segment of the disk that is not all zero; the last one may be short
runs       "OFFSET LENGTH delta|zero", bytes of the disk in order: the plain bytes of the frames section lie at the
           `delta` runs, one after another; `zero` runs hold data in the Full and are zero now
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO

from restore_core.archive.frames import plain_stream
from restore_core.archive.index_map import DELTA, ZERO
from restore_core.errors import BadArchive
from restore_core.targets.base import ArchiveRef

SEGMENT_SIZE = 16 << 20
"""Bytes of disk under one SHA-256; the unit in which a backup reads (restore_core.disk.scan)."""

MAX_LINE = 128


class GzipLines:
    """Text lines gzipped into a scratch file as they come."""

    def __init__(self, scratch: IO[bytes]) -> None:
        self.file = scratch
        self._packer = zlib.compressobj(6, zlib.DEFLATED, 31)

    def add(self, line: str) -> None:
        """One line, without its newline."""
        self.file.write(self._packer.compress(line.encode() + b"\n"))

    def finish(self) -> None:
        """End the gzip stream; the file then holds the whole section."""
        self.file.write(self._packer.flush())


class RunLines:
    """Merges blocks into runs of the same kind and writes them as lines. Blocks must come in disk order."""

    def __init__(self, lines: GzipLines, block_size: int) -> None:
        self._lines, self._block_size = lines, block_size
        self._kind = -1
        self._start = self._end = 0

    def add(self, block: int, length: int, kind: int) -> None:
        """A block of `length` bytes that is `DELTA`, or `ZERO` where the Full holds data."""
        offset = block * self._block_size
        if kind != self._kind or offset != self._end:
            self.finish()
            self._kind, self._start = kind, offset
        self._end = offset + length

    def finish(self) -> None:
        """Write the run that is open."""
        if self._kind in (DELTA, ZERO):
            word = "delta" if self._kind == DELTA else "zero"
            self._lines.add(f"{self._start} {self._end - self._start} {word}")
        self._kind = -1


def read_lines(chunks: Iterator[bytes], ref: ArchiveRef) -> Iterator[str]:
    """The lines of such a section; `BadArchive` for a line that no writer of ours makes."""
    rest = b""
    for data in plain_stream(chunks, ref):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_LINE:
            raise BadArchive(f"{ref}: a list for the shell holds an endless line", remedy="Use another copy.")
        for line in lines:
            yield line.decode("ascii", "replace")
    if rest:
        raise BadArchive(f"{ref}: a list for the shell ends within a line", remedy="Use another copy.")


def read_segments(chunks: Iterator[bytes], ref: ArchiveRef) -> Iterator[tuple[int, bytes]]:
    """(index, SHA-256) of each segment that is not all zero, indices rising."""
    last = -1
    for line in read_lines(chunks, ref):
        index, _, digest = line.partition(" ")
        try:
            number, value = int(index), bytes.fromhex(digest)
        except ValueError:
            number, value = -1, b""
        if number <= last or len(value) != 32:
            raise BadArchive(f"{ref}: section segments: not a segment: {line[:80]!r}", remedy="Use another copy.")
        last = number
        yield number, value
