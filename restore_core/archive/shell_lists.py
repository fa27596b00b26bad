"""Two sections for ordinary tools: gzipped text that a shell can use with `gzip`, `dd` and `sha256sum`.

segments   "INDEX SHA256" for each 16 MiB segment of the disk that is not all zero; the last one may be short
runs       "OFFSET LENGTH delta|zero", bytes of the disk in order: the plain bytes of the frames section belong to the
           `delta` runs, one after another; `zero` runs hold data in the Full and are zero now
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from restore_core.archive.frames import plain_stream
from restore_core.archive.index_map import DELTA, ZERO
from restore_core.errors import BadArchive
from restore_core.targets.base import ArchiveRef

SEGMENT_SIZE = 16 << 20
"""Bytes of disk under one SHA-256. A backup reads in units of the same size (`restore_core.disk.scan`)."""

MAX_LINE = 128
_NUMBER = "(0|[1-9][0-9]{0,17})"
_SEGMENT = re.compile(_NUMBER + " ([0-9a-f]{64})")
_RUN = re.compile(f"{_NUMBER} {_NUMBER} (delta|zero)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One line of `runs`, in bytes of the disk; `kind` is DELTA or ZERO."""

    offset: int
    length: int
    kind: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length


class GzipLines:
    """Compresses text lines into a scratch file as they come."""

    def __init__(self, scratch: IO[bytes]) -> None:
        self.file = scratch
        self._packer = zlib.compressobj(6, zlib.DEFLATED, 31)

    def add(self, line: str) -> None:
        """Adds one line, which is given without its newline."""
        self.file.write(self._packer.compress(line.encode() + b"\n"))

    def finish(self) -> None:
        """Ends the gzip stream; the file then holds the whole section."""
        self.file.write(self._packer.flush())


class RunLines:
    """Merges blocks into runs of the same kind and writes them as lines. Blocks must come in disk order."""

    def __init__(self, lines: GzipLines, block_size: int) -> None:
        self._lines, self._block_size = lines, block_size
        self._kind = -1
        self._start = self._end = 0

    def add(self, block: int, length: int, kind: int) -> None:
        """Adds a block of `length` bytes that is `DELTA`, or `ZERO` where the Full holds data."""
        offset = block * self._block_size
        if kind != self._kind or offset != self._end:
            self.finish()
            self._kind, self._start = kind, offset
        self._end = offset + length

    def finish(self) -> None:
        """Writes the run that is open."""
        if self._kind in (DELTA, ZERO):
            word = "delta" if self._kind == DELTA else "zero"
            self._lines.add(f"{self._start} {self._end - self._start} {word}")
        self._kind = -1


def read_lines(chunks: Iterator[bytes], ref: ArchiveRef) -> Iterator[str]:
    """Yields the lines of such a section. Raises `BadArchive` for a line that is too long or has no end."""
    rest = b""
    for data in plain_stream(chunks, ref):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_LINE:
            raise BadArchive(f"{ref}: a list for the shell holds a line of more than {MAX_LINE} bytes", remedy="Use another copy.")
        for line in lines:
            yield line.decode("ascii", "replace")
    if rest:
        raise BadArchive(f"{ref}: a list for the shell ends within a line", remedy="Use another copy.")


def read_segments(chunks: Iterator[bytes], ref: ArchiveRef) -> Iterator[tuple[int, bytes]]:
    """Yields (index, SHA-256) of each segment that is not all zero, by rising index. Raises `BadArchive`."""
    last = -1
    for line in read_lines(chunks, ref):
        match = _SEGMENT.fullmatch(line)
        if match is None or int(match[1]) <= last:
            raise BadArchive(f"{ref}: section segments: not a segment: {line[:80]!r}", remedy="Use another copy.")
        last = int(match[1])
        yield last, bytes.fromhex(match[2])


def read_runs(chunks: Iterator[bytes], ref: ArchiveRef, *, disk_size: int, block_size: int) -> Iterator[Run]:
    """Yields the runs in disk order: whole blocks, none beyond the disk, none twice. Raises `BadArchive`."""
    end = 0
    for line in read_lines(chunks, ref):
        match = _RUN.fullmatch(line)
        run = Run(offset=int(match[1]), length=int(match[2]), kind=DELTA if match[3] == "delta" else ZERO) if match else None
        if (
            run is None
            or run.offset < end
            or run.offset % block_size
            or not run.length
            or run.end > disk_size
            or (run.end % block_size and run.end != disk_size)
        ):
            raise BadArchive(f"{ref}: section runs: not a run of this disk: {line[:80]!r}", remedy="Use another copy.")
        end = run.end
        yield run
