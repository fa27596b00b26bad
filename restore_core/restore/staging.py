"""A sink for a refresh: blocks of a disk, packed one behind the other into a redo file (redo says what else is in it)."""

from __future__ import annotations

import array
import bisect

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import Buffer
from restore_core.disk.sink import BufferedFile
from restore_core.restore.survey import Survey


class StagedBlocks:
    """A sink that takes blocks by their place on the disk and packs them into a redo file."""

    waits = False

    def __init__(self, fd: int, delta: DeltaReader, survey: Survey) -> None:
        self._file = BufferedFile(fd)
        self._starts, self._packed = array.array("Q"), array.array("Q")
        size, rank = delta.header.block_size, 0
        for block, count in survey.written():
            self._starts.append(block * size)
            self._packed.append(rank * size)
            rank += count

    def write(self, data: Buffer, offset: int) -> None:
        """`offset` is on the disk; `data` lies within one run of blocks that change."""
        run = bisect.bisect_right(self._starts, offset) - 1
        self._file.write(data, self._packed[run] + offset - self._starts[run])

    def close(self) -> None:
        """The file stays open."""
        self._file.close()
