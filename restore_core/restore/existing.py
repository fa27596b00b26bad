"""The disk that is at a destination, kept open through our only descriptor of it from the survey to the end of the restore.

A VM may start while a restore fetches and stages: it wins. So before each step that cannot be undone `prove` checks three things:

    quiet   no QEMU image lock but ours, no `.lck`; from now on no QEMU opens it for writing
    alone   a write lease can be had: nobody else has it open or mapped
    same    the file, its size and times are those of the survey, its name and its folder lead where they led

For a refresh in place `allocate_ahead` allocates blocks before the disk is hidden: for holes that will be written, and for what a
thick disk grows. That changes the disk's times and none of its bytes. So a record in the hold says so first; it is done under a
lease in small pieces (nobody can open, write and close the disk in between without being seen); and the receipt gets the new times
at once.

The survey begins with an fsync: a store to a mapped page that is dirty already changes no time of the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.allocation import allocate_range, free_bytes, holes
from restore_core.disk.alone import Alone, alone, image_is_locked, in_use_error, leased, lock_image
from restore_core.disk.destination import Destination
from restore_core.disk.hold import Hold
from restore_core.disk.identity import Stamps, stamps_of
from restore_core.disk.locks import refuse_lock_files
from restore_core.errors import NoSpace
from restore_core.restore.receipt import Receipts
from restore_core.restore.survey import Survey

_ON_THEIR_WAY = 0.02
"""Seconds. Of 24,312 programs that opened a disk during its rename 4 succeeded; so long after it, of 859 none (ext4)."""
_PIECE = 256 << 20
"""Bytes allocated under one lease, which takes some milliseconds; another program that opens the disk waits so long."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
ALLOCATING = "allocating"
"""The kind of a record in the hold: we are allocating blocks to a disk of ours, which changes its times but none of its bytes."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ChangedMeanwhile(Exception):
    """The disk is not as it was surveyed. `written`: its bytes may differ; else only its owner, mode or names changed."""

    def __init__(self, what: str, *, written: bool) -> None:
        super().__init__(what)
        self.written = written


@dataclass(slots=True, kw_only=True)
class ExistingDisk:
    """One open disk. `stamps` are those of the survey; `fd` is for reading, or also for writing after `reopen_for_writing`."""

    destination: Destination
    fd: int
    stamps: Stamps
    lone: Alone = field(default=Alone.UNKNOWN)
    """Result of the last request for a lease: UNKNOWN where the file system has none."""

    @classmethod
    def opened(cls, destination: Destination) -> Self:
        """Open the disk for a survey. Raises `DestinationInUse` if somebody has it open, and `OSError`."""
        fd = os.open(destination.disk_name, os.O_RDONLY | _FLAGS, dir_fd=destination.folder_fd)
        try:
            disk = cls(destination=destination, fd=fd, stamps=stamps_of(fd))
            disk.refuse_unless_alone()
            durable.sync_file(fd)
            disk.stamps = stamps_of(fd)
        except BaseException:
            os.close(fd)
            raise
        return disk

    def refuse_unless_alone(self) -> None:
        """Raise `DestinationInUse` if somebody else has it open."""
        self.lone = alone(self.fd)
        if self.lone is Alone.NO:
            raise in_use_error(self.destination.where, "another program has it open")

    def surveyed(self) -> None:
        """Call after the survey has read it: raises unless it stayed as it was and nobody has opened it meanwhile."""
        self._refuse_unless_same()
        self.refuse_unless_alone()

    def reopen_for_writing(self) -> None:
        """Open the same file for writing, too, whatever its name is now; close our first descriptor. Raises `OSError`."""
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        os.close(self.fd)
        self.fd = fd

    def prove(self) -> None:
        """Check all three, before the disk is replaced or hidden.

        Raises `DestinationInUse`, `ChangedMeanwhile`, `DestinationMoved`.
        """
        where = self.destination.where
        lock_image(self.fd, where)
        refuse_lock_files(self.destination.disk_name, self.destination.folder_fd, where)
        self.refuse_unless_alone()
        self._refuse_unless_same()
        if not self.destination.leads_to(self.destination.disk_name, self.fd):
            raise ChangedMeanwhile("another file took its name", written=True)
        self.destination.refuse_if_moved()

    @contextlib.contextmanager
    def renamed(self) -> Iterator[None]:
        """Keeps others from opening the disk while the block gives it another name, which changes its ctime and nothing else.

        The stamps are compared under the same lease before that, or the new ctime would hide a write whose mtime was set back.
        Raises as `prove`.
        """
        with leased(self.fd) as self.lone:
            if self.lone is Alone.NO:
                raise in_use_error(self.destination.where, "another program has it open")
            self._refuse_unless_same()
            yield
            self.stamps = replace(self.stamps, ctime_ns=stamps_of(self.fd).ctime_ns)

    def prove_again(self, name: str) -> None:
        """Check again after the disk got the name `name` inside `renamed`. Raises as `prove`.

        It checks twice: a program that had looked up the old name already may open the file a moment later.
        """
        self._prove_under(name)
        time.sleep(_ON_THEIR_WAY)
        self._prove_under(name)
        refuse_lock_files(self.destination.disk_name, self.destination.folder_fd, self.destination.where)
        self.destination.refuse_if_moved()

    def _prove_under(self, name: str) -> None:
        if not self.destination.leads_to(name, self.fd):
            raise ChangedMeanwhile("another file took its name", written=True)
        self.refuse_unless_alone()
        if image_is_locked(self.fd):  # where there are no leases, only this shows a reader that came last
            raise in_use_error(self.destination.where, "a program that keeps QEMU's image locks has just opened it")
        self._refuse_unless_same()

    def accept_stamps(self) -> None:
        """Take its stamps anew: we changed them ourselves, and nothing else."""
        self.stamps = stamps_of(self.fd)

    def _refuse_unless_same(self) -> None:
        now = replace(stamps_of(self.fd), identity=self.stamps.identity)  # it is one open file; rclone numbers it anew at a rename
        if not now.same_content(self.stamps):
            raise ChangedMeanwhile("it was written meanwhile", written=True)
        if not now.same(self.stamps):
            raise ChangedMeanwhile("its owner, mode or names were changed meanwhile", written=False)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def is_thick(facts: os.stat_result) -> bool:
    """Whether a disk has all of its blocks allocated; a refresh keeps it so."""
    return facts.st_blocks * 512 >= facts.st_size


def ranges_to_allocate(disk: ExistingDisk, delta: DeltaReader, survey: Survey) -> list[tuple[int, int]]:
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


def allocate_ahead(disk: ExistingDisk, hold: Hold, receipts: Receipts, ranges: list[tuple[int, int]]) -> str | None:
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
