"""Allocates blocks for a refresh in place before the disk is hidden: for holes that will be written, and what a thick disk grows.

Allocating changes the disk's times and none of its bytes. So a record in the hold says so first; it is done under a lease in small
pieces (nobody can open, write and close the disk in between without being seen); and the receipt gets the new times at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.allocation import allocate_range, free_bytes, holes
from restore_core.disk.alone import Alone, in_use_error, leased
from restore_core.disk.hold import Hold
from restore_core.disk.identity import stamps_of
from restore_core.errors import NoSpace
from restore_core.restore.decide import ALLOCATING
from restore_core.restore.existing import ChangedMeanwhile, ExistingDisk
from restore_core.restore.receipt import Receipts
from restore_core.restore.redo import is_thick
from restore_core.restore.survey import Survey

_PIECE = 256 << 20
"""Bytes allocated under one lease, which takes some milliseconds; another program that opens the disk waits so long."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def ranges_to_take(disk: ExistingDisk, delta: DeltaReader, survey: Survey) -> list[tuple[int, int]]:
    """Returns (offset, length) of the parts of the disk that have no blocks and will be written. Raises `OSError`."""
    header, size = delta.header, disk.stamps.size
    facts = os.fstat(disk.fd)
    if is_thick(facts):
        return [(size, header.disk_size - size)] if header.disk_size > size else []
    block = header.block_size
    written = ((first * block, min(count * block, header.disk_size - first * block)) for first, count in survey.written())
    ranges = list(written)
    beyond = [(max(offset, size), offset + length - max(offset, size)) for offset, length in ranges if offset + length > size]
    return [*holes(disk.fd, ranges), *beyond]


def take_room(disk: ExistingDisk, hold: Hold, receipts: Receipts, ranges: list[tuple[int, int]]) -> str | None:
    """Allocate these ranges of a disk that is open for writing and proved. Returns a note for the log where the file system cannot.

    Raises `NoSpace`, `DestinationInUse`, `ChangedMeanwhile` and `OSError`; the disk keeps its bytes in any case.
    """
    if not ranges:
        return None
    known, before = receipts.load(), os.fstat(disk.fd)
    was_ours, sure = known is not None and known.ours(before), known is not None and known.untouched(before)
    # An earlier attempt crashed here: only its record says that a disk with other times than its receipt is ours.
    claimed = not was_ours and (hold.record() or {}).get("doing") == ALLOCATING
    identity = disk.stamps.identity
    hold.write_record({"doing": ALLOCATING, "inode": identity.inode, "generation": identity.generation})
    try:
        for offset, length in _pieces(ranges):
            if not _allocate(disk, offset, length):
                return "this file system cannot allocate holes beforehand; if space runs out, the old blocks are put back"
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        folder = disk.destination.folder_fd
        needed = sum(length for _offset, length in ranges)
        raise NoSpace(where=disk.destination.where, needed=needed, free=free_bytes(folder), thin=True) from error
    finally:
        if was_ours and stamps_of(disk.fd).same(disk.stamps):
            receipts.stamp(os.fstat(disk.fd), sure=sure)
        if not claimed:
            hold.clear_record()
    return None


def _allocate(disk: ExistingDisk, offset: int, length: int) -> bool:
    with leased(disk.fd) as lone:
        if lone is Alone.NO:
            raise in_use_error(disk.destination.where, "another program has just opened it")
        if not stamps_of(disk.fd).same(disk.stamps):
            raise ChangedMeanwhile("it was written just before blocks were allocated", written=True)
        try:
            return allocate_range(disk.fd, offset, length)
        finally:
            disk.accept_stamps()


def _pieces(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for offset, length in ranges:
        for at in range(offset, offset + length, _PIECE):
            yield at, min(_PIECE, offset + length - at)
