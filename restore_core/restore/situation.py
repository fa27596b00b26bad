"""What a restore finds at its destination: a new place, the part file of an earlier attempt, or a disk, and whose it is."""

from __future__ import annotations

import os

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.header import DeltaHeader, utc
from restore_core.disk.destination import Destination, open_destination
from restore_core.disk.locks import refuse_if_in_use
from restore_core.errors import DestinationExists, Diverged, Overtaken
from restore_core.naming import printable
from restore_core.restore import receipt as receipts
from restore_core.restore.plan import summary
from restore_core.restore.receipt import DigestsFile
from restore_core.restore.request import RestoreRequest, Stop
from restore_core.restore.survey import Survey, survey_disk, survey_known
from restore_core.restore.ways import Decision, for_existing, for_new


def exists(request: RestoreRequest) -> bool:
    """Whether a disk, or its descriptor, lies at the destination: then a restore is refused without `overwrite`."""
    if not request.destination.parent.exists():
        return False
    with open_destination(request.destination, roots=request.roots, make_folders=False) as destination:
        return destination.stat_descriptor() is not None or destination.stat_disk() is not None


def refuse_existing(destination: Destination, request: RestoreRequest) -> None:
    """Refuse a destination that holds a disk without `overwrite`, or one that is in use."""
    descriptor, disk = destination.stat_descriptor(), destination.stat_disk()
    if (descriptor is not None or disk is not None) and not request.overwrite:
        there = destination.descriptor_name if descriptor is not None else destination.disk_name
        raise DestinationExists(
            f"{printable(str(request.destination))}: {printable(there or '')} is there already",
            remedy="Choose another name, or say that it may be replaced: overwrite = true (--overwrite).",
        )
    refuse_if_in_use(request.destination, dir_fd=destination.folder_fd)


def refuse(destination: Destination, request: RestoreRequest, delta: DeltaHeader) -> None:
    """Refuse what lies there and must not be touched.

    Raises `Diverged` when only a disk of ours may be touched and this one is not, `Overtaken` for a job of a rule that came too
    late, and what `refuse_existing` raises, unless the very disk that is asked for lies there from an attempt before this.
    """
    facts = destination.stat_disk()
    receipt = receipts.load(request.records, destination)
    ours = facts is not None and receipt is not None and receipt.ours(facts)
    if not (request.again and ours and receipt is not None and receipt.delta_id == delta.delta_id):
        refuse_existing(destination, request)
    if request.only_ours and facts is not None and not ours:
        raise Diverged(
            f"{printable(str(request.destination))}: somebody has written this disk since it was last restored",
            remedy="It may be the only copy of that work. To replace it all the same, restore by hand with overwrite = true.",
        )
    if request.decided_at and ours and receipt is not None and receipt.written >= request.decided_at and receipt.taken > delta.time:
        raise Overtaken(
            f"{printable(str(request.destination))}: a newer backup was restored there after this job was queued, that of "
            f"{utc(receipt.taken)}; this one is of {utc(delta.time)}",
            remedy="A replica never goes back by itself. To have the older one, restore it by hand with overwrite = true.",
        )


def look(destination: Destination, request: RestoreRequest, delta: DeltaReader, part: int, stop: Stop) -> Decision:
    """Decide the way. `part` is the part file, as an earlier attempt may have left it. Changes nothing."""
    facts = destination.stat_disk()
    if facts is None:
        return for_new(summary(delta), _leftover(delta, part, stop))
    known = _trusted_digests(destination, request, delta, facts)
    survey = _survey_existing(destination, delta, known, stop)
    return for_existing(summary(delta), survey, size=facts.st_size)


def _survey_existing(destination: Destination, delta: DeltaReader, known: DigestsFile | None, stop: Stop) -> Survey:
    if known is not None:
        try:
            return survey_known(delta, known, stop)
        finally:
            known.close()
    fd = os.open(destination.disk_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=destination.folder_fd)
    try:
        return survey_disk(delta, fd, os.fstat(fd).st_size, stop)
    finally:
        os.close(fd)


def _trusted_digests(
    destination: Destination, request: RestoreRequest, delta: DeltaReader, facts: os.stat_result
) -> DigestsFile | None:
    """What is on the disk, if a receipt proves that nobody touched it and its digests are of the kind this Delta uses."""
    receipt = receipts.load(request.records, destination)
    if request.records is None or receipt is None or request.readback or not receipt.untouched(facts):
        return None
    header = delta.header
    if (receipt.size, receipt.block_size, receipt.block_digest) != (header.disk_size, header.block_size, header.block_digest.value):
        return None
    return DigestsFile.opened(request.records, destination, receipt)


def _leftover(delta: DeltaReader, part: int, stop: Stop) -> Survey | None:
    """What an earlier attempt left in the part file, if that was of this size."""
    size = os.fstat(part).st_size
    return survey_disk(delta, part, size, stop) if size and size == delta.header.disk_size else None
