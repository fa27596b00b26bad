"""The redo file of a refresh in place: every change with the new bytes and the old ones, and the digests of both.

    new blocks     those that are written, packed, a block's size each, in disk order (`StagedBlocks` writes them)
    records        32 bytes and two digests a change: offset on the disk, length before and after, where old and new bytes
                   are in this file (NOWHERE: zeros), the digests of both
    old blocks     what lay in their places and where zeros will be, packed; zeros are not stored
    footer         JSON, padded, and its length in the last 8 bytes: which disk, how large before and after, which descriptor

So a refresh can be completed and can be taken back, whatever half of it has reached the disk.
"""

from __future__ import annotations

import array
import bisect
import enum
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import NamedTuple

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import BlockDigest, Buffer
from restore_core.archive.full_reader import block_length
from restore_core.disk.identity import Stamps
from restore_core.disk.scan import is_zero
from restore_core.disk.sink import BufferedFile
from restore_core.errors import BadData
from restore_core.restore.survey import KEEP, WRITE, Survey

VERSION = 2
SECTOR = 512
_NOWHERE = 2**64 - 1
_LENGTH = struct.Struct("<Q")
_LONGEST_FOOTER = 32 << 20
_ALIGN = 64 << 10
_READ_AHEAD = 128 << 20
"""Bytes; more would only push other data out of the host's page cache."""


def _record_of(digest: BlockDigest) -> struct.Struct:
    return struct.Struct(f"<QIIQQ{digest.size}s{digest.size}s")


class Side(enum.Enum):
    """The disk before the refresh, and after it."""

    OLD = "old"
    NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedoFooter:
    """The footer of a redo file: which disk it belongs to (`inode`, `generation`), the disk's size in bytes before and after."""

    inode: int
    generation: int
    size_before: int
    size_after: int
    thick: bool
    delta_id: str
    block_size: int
    block_digest: str
    records_at: int
    records: int
    descriptor: str | None

    def size(self, side: Side) -> int:
        """Returns the size of the disk on one side, in bytes."""
        return self.size_before if side is Side.OLD else self.size_after


class Stored(NamedTuple):
    """One block on one side: bytes of the disk, where they are in the redo file (`_NOWHERE`: they are zeros), and their digest."""

    length: int
    at: int
    digest: bytes

    @property
    def zero(self) -> bool:
        """Whether the block is all zeros; then nothing is stored of it."""
        return self.at == _NOWHERE


class RedoChange(NamedTuple):
    """One block that differs; `offset` is its place on the disk."""

    offset: int
    old: Stored
    new: Stored

    def on(self, side: Side) -> Stored:
        """Returns the block on one side."""
        return self.old if side is Side.OLD else self.new


class RedoFile:
    """A redo file that is complete. `fd` stays the caller's."""

    def __init__(self, fd: int, footer: RedoFooter) -> None:
        self.fd, self.footer = fd, footer
        digest = BlockDigest(footer.block_digest)
        self._digest, self._record = digest.of, _record_of(digest)

    @classmethod
    def opened(cls, fd: int) -> RedoFile | None:
        """Returns the redo file behind `fd`; None if it has no footer that this version can read."""
        try:
            end = os.fstat(fd).st_size - _LENGTH.size
            (length,) = _LENGTH.unpack(os.pread(fd, _LENGTH.size, max(0, end)))
            data = json.loads(os.pread(fd, min(length, _LONGEST_FOOTER), max(0, end - length)))
            return cls(fd, RedoFooter(**data)) if data.pop("version") == VERSION else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
            return None

    def changes(self) -> Iterator[RedoChange]:
        """Yields all changes, in disk order. Raises `BadData` for a file that is too short."""
        footer = self.footer
        for first in range(0, footer.records, 4096):
            number = min(4096, footer.records - first)
            data = os.pread(self.fd, number * self._record.size, footer.records_at + first * self._record.size)
            if len(data) != number * self._record.size:
                raise BadData("the redo file is shorter than its footer says", remedy="Restore the disk again with overwrite.")
            for offset, old_length, new_length, old_at, new_at, old_digest, new_digest in self._record.iter_unpack(data):
                yield RedoChange(offset, Stored(old_length, old_at, old_digest), Stored(new_length, new_at, new_digest))

    def data(self, change: RedoChange, side: Side) -> bytes | None:
        """Returns the bytes of one side, checked; None if the redo file is damaged there."""
        stored = change.on(side)
        if stored.zero:
            return bytes(stored.length)
        data = os.pread(self.fd, stored.length, stored.at)
        return data if len(data) == stored.length and self._digest(data) == stored.digest else None

    def whole(self, side: Side) -> bool:
        """Whether all bytes of one side are as they were written."""
        return all(self.data(change, side) is not None for change in self.changes())


class StagedBlocks:
    """A sink for a refresh: packs blocks of the disk one behind the other into a new redo file."""

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
        """Write `data`, which is within one run of blocks that change, to its place; `offset` is on the disk."""
        run = bisect.bisect_right(self._starts, offset) - 1
        self._file.write(data, self._packed[run] + offset - self._starts[run])

    def close(self) -> None:
        """Closes nothing: the file stays open."""
        self._file.close()


def read_ahead(disk: int, delta: DeltaReader, survey: Survey) -> None:
    """Ask the kernel to read the blocks that will change, which `complete` needs, while new ones are fetched. Only a hint."""
    size, left = delta.header.block_size, _READ_AHEAD
    ranges = ((block * size, count * size) for block, count in survey.written())
    for offset, length in chain(ranges, survey.cleared(delta)):
        if left <= 0:
            return
        os.posix_fadvise(disk, offset, min(length, left), os.POSIX_FADV_WILLNEED)
        left -= length


def complete(
    fd: int, disk: int, delta: DeltaReader, survey: Survey, *, before: Stamps, thick: bool, descriptor: str | None
) -> None:
    """Add the old blocks, read from the open disk, the records and the footer to what `StagedBlocks` wrote, and make it durable.

    The caller has proved that nobody else has the disk open. Raises `OSError`.
    """
    plan, header = survey.plan, delta.header
    records_at = _aligned((plan.full_blocks + plan.delta_blocks) * plan.block_size)
    count = sum(len(actions) - actions.count(KEEP) for actions in survey.actions)
    tail = _Tail(fd, disk, delta, at=_aligned(records_at + count * _record_of(header.block_digest).size), size_before=before.size)
    at = records_at
    for number, actions in enumerate(survey.actions):
        data = tail.records(number, actions)
        durable.write_all_at(fd, data, at)
        at += len(data)
    footer = RedoFooter(
        inode=before.identity.inode,
        generation=before.identity.generation,
        size_before=before.size,
        size_after=header.disk_size,
        thick=thick,
        delta_id=header.delta_id,
        block_size=header.block_size,
        block_digest=header.block_digest.value,
        records_at=records_at,
        records=count,
        descriptor=descriptor,
    )
    text = json.dumps({"version": VERSION, **asdict(footer)}).encode()
    text = text.rjust(_aligned(len(text) + _LENGTH.size) - _LENGTH.size)
    durable.write_all_at(fd, text + _LENGTH.pack(len(text)), tail.at)
    durable.sync_file(fd)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


class _Tail:
    """Writes old blocks behind the new ones, and makes the records of both."""

    def __init__(self, fd: int, disk: int, delta: DeltaReader, *, at: int, size_before: int) -> None:
        self._fd, self._disk, self._delta, self._size_before = fd, disk, delta, size_before
        self._digest, self._no_digest = delta.header.block_digest.of, bytes(delta.header.block_digest.size)
        self._layout = _record_of(delta.header.block_digest)
        self._rank = 0
        self.at = at

    def records(self, number: int, actions: bytes) -> bytes:
        """Returns the records of one page of the map, and writes its old blocks."""
        if not actions.strip(bytes([KEEP])):
            return b""
        page, made = self._delta.page(number), []
        for index, action in enumerate(actions):
            if action != KEEP:
                digest = page.digest(index) if action == WRITE else None
                made.append(self._record(page.first_block + index, digest))
        return b"".join(made)

    def _record(self, block: int, new_digest: bytes | None) -> bytes:
        header = self._delta.header
        size, offset = header.block_size, block * header.block_size
        old_length = max(0, min(size, self._size_before - offset))
        old = os.pread(self._disk, old_length, offset)
        if len(old) != old_length:
            raise BadData(f"the disk ends within the block at {offset}", remedy="Something shrinks it; stop that.")
        old_at, old_digest = _NOWHERE, self._no_digest
        if not is_zero(old):
            durable.write_all_at(self._fd, old, self.at)
            old_at, old_digest, self.at = self.at, self._digest(old), self.at + old_length
        new_at = _NOWHERE
        if new_digest is not None:
            new_at, self._rank = self._rank * size, self._rank + 1
        new_length = block_length(header.disk_size, size, block)
        return self._layout.pack(offset, old_length, new_length, old_at, new_at, old_digest, new_digest or self._no_digest)


def sides_on_disk(disk: int, redo: RedoFile) -> tuple[set[Side], int | None]:
    """Returns on which sides the changed blocks of a disk are now, sector by sector, and where the first is that is on neither.

    After a crash some sectors of one block may be new and some old.
    """
    seen: set[Side] = set()
    for change in redo.changes():
        length = max(change.old.length, change.new.length)
        there = os.pread(disk, length, change.offset).ljust(length, b"\0")
        sides = {side: (redo.data(change, side) or b"").ljust(length, b"\0") for side in Side}
        if there == sides[Side.NEW] or there == sides[Side.OLD]:
            seen.add(Side.NEW if there == sides[Side.NEW] else Side.OLD)
            continue
        for at in range(0, length, SECTOR):
            sector = there[at : at + SECTOR]
            on = {side for side, data in sides.items() if data[at : at + SECTOR] == sector}
            if not on:
                return seen, change.offset + at
            if len(on) == 1:
                seen |= on
    return seen, None
