"""What a restore finds at its destination: a new place, the part file of an earlier attempt, or a disk, and whose it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import BlockDigest
from restore_core.disk.allocation import shares_blocks
from restore_core.disk.destination import Destination, open_destination
from restore_core.disk.identity import Identity, identity_of
from restore_core.errors import Diverged
from restore_core.naming import printable
from restore_core.restore import receipt as receipts
from restore_core.restore.existing import ExistingDisk
from restore_core.restore.plan import summary
from restore_core.restore.receipt import DigestsFile, Receipt
from restore_core.restore.request import RestoreRequest, Stop
from restore_core.restore.survey import Survey, holds_digests, survey_disk, survey_known
from restore_core.restore.ways import Decision, Way, for_existing, for_new

ALLOCATING = "allocating"
"""A record in the hold: blocks are being allocated to a disk of ours, which changes its times but none of its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The way to take, the disk that is there (open; None for a new one), and why its blocks must not be written in place."""

    decision: Decision
    disk: ExistingDisk | None
    not_in_place: str = ""


def exists(request: RestoreRequest) -> bool:
    """Whether a disk, or its descriptor, lies at the destination: then a restore is refused without `overwrite`."""
    if not request.destination.parent.exists():
        return False
    with open_destination(request.destination, roots=request.roots, make_folders=False) as destination:
        return destination.stat_descriptor() is not None or destination.stat_disk() is not None


def may_be_ours(request: RestoreRequest, destination: Destination, record: dict[str, Any] | None) -> Receipt | None:
    """The receipt of the disk that lies there, if its stamps do not say that somebody else wrote it. `record` is the hold's.

    Whether they prove that nobody did is for `look` to find out.
    """
    facts = destination.stat_disk()
    receipt = receipts.load(request.records, destination, facts)
    if facts is None or receipt is None:
        return None
    return receipt if receipt.ours(facts) or _we_allocated(record, destination) else None


def look(
    destination: Destination, request: RestoreRequest, delta: DeltaReader, part: int, *, stop: Stop, record: dict[str, Any] | None
) -> Found:
    """Decide the way. `part` is the part file, as an earlier attempt may have left it (-1: there is none). Changes nothing.

    Raises `DestinationInUse` if somebody has the disk open, `ChangedMeanwhile` if it changes while it is read, `Diverged` if only a
    disk of ours may be touched and this one turns out not to be ours.
    """
    if destination.stat_disk() is None:
        return Found(decision=for_new(summary(delta), _leftover(delta, part, stop)), disk=None)
    disk = ExistingDisk.opened(destination)
    try:
        known = _trusted_digests(request, delta, disk, stop, record)
        survey = _survey_existing(delta, disk, known, stop)
        disk.surveyed()
        decision = for_existing(summary(delta), survey, size=disk.stamps.size)
        # The extents of a large disk are many: they are asked for only where the answer decides.
        not_in_place = _why_not_in_place(disk) if decision.way is Way.REDO else ""
        return Found(decision=decision, disk=disk, not_in_place=not_in_place)
    except BaseException:
        disk.close()
        raise


def diverged(request: RestoreRequest) -> Diverged:
    """The refusal of a disk that is not as we left it."""
    return Diverged(
        f"{printable(str(request.destination))}: somebody has written this disk since it was last restored",
        remedy="It may be the only copy of that work. To replace it all the same, restore by hand with overwrite = true.",
    )


def _why_not_in_place(disk: ExistingDisk) -> str:
    if disk.stamps.links > 1:
        return "it has another name (hard link), which must keep what it has"
    return "it shares blocks with another file" if shares_blocks(disk.fd) else ""


def _survey_existing(delta: DeltaReader, disk: ExistingDisk, known: DigestsFile | None, stop: Stop) -> Survey:
    if known is None:
        return survey_disk(delta, disk.fd, disk.stamps.size, stop)
    try:
        return survey_known(delta, known, stop)
    finally:
        known.close()


def _trusted_digests(
    request: RestoreRequest, delta: DeltaReader, disk: ExistingDisk, stop: Stop, record: dict[str, Any] | None
) -> DigestsFile | None:
    """What is on the disk, if it was read or a receipt proves that nobody touched it, and the digests are of this Delta's kind.

    Where stamps prove nothing (another boot, a crash while we allocated, another ctime, which also a time that was set back leaves)
    and only a disk of ours may be touched, it is read now and must be as the receipt says.
    """
    receipt = may_be_ours(request, disk.destination, record)
    if receipt is None or request.records is None:
        if request.options.only_ours:
            raise diverged(request)
        return None
    proven = receipt.untouched(os.fstat(disk.fd))
    if not proven and not request.options.only_ours:
        return None
    digests = DigestsFile.opened(request.records, disk.destination, receipt)
    if not proven and (digests is None or not _as_recorded(disk, receipt, digests, stop)):
        if digests is not None:
            digests.close()
        raise diverged(request)
    header = delta.header
    same = (receipt.size, receipt.block_size, receipt.block_digest) == (
        header.disk_size,
        header.block_size,
        header.block_digest.value,
    )
    if digests is not None and (not same or request.options.readback):
        digests.close()
        return None
    return digests


def _as_recorded(disk: ExistingDisk, receipt: Receipt, digests: DigestsFile, stop: Stop) -> bool:
    if disk.stamps.size != receipt.size:
        return False
    return holds_digests(disk.fd, receipt.size, receipt.block_size, BlockDigest(receipt.block_digest), known=digests, stop=stop)


def _we_allocated(record: dict[str, Any] | None, destination: Destination) -> bool:
    """Whether a crash fell between our allocating blocks to this very disk and putting its new stamps on record."""
    if record is None or record.get("doing") != ALLOCATING:
        return False
    fd = os.open(destination.disk_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=destination.folder_fd)
    try:
        return identity_of(fd).same(Identity(inode=record["inode"], generation=record["generation"]))
    finally:
        os.close(fd)


def _leftover(delta: DeltaReader, part: int, stop: Stop) -> Survey | None:
    """What an earlier attempt left in the part file, if that was of this size."""
    size = os.fstat(part).st_size if part >= 0 else 0
    return survey_disk(delta, part, size, stop) if size and size == delta.header.disk_size else None
