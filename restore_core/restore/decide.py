"""Looks at a destination (nothing is there, the part file of an earlier attempt, or a disk) and decides how it will be written.

A decision is data; `Writer` carries it out.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, replace
from typing import Any

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import BlockDigest
from restore_core.capabilities import of_open_folder
from restore_core.disk.allocation import shares_blocks
from restore_core.disk.destination import Destination
from restore_core.disk.identity import FileIdentity, identity_of
from restore_core.errors import Diverged
from restore_core.naming import printable
from restore_core.restore.existing import ALLOCATING, ChangedMeanwhile, ExistingDisk
from restore_core.restore.plan import plan_summary
from restore_core.restore.receipt import DigestsFile, Receipt, Receipts
from restore_core.restore.request import PlanSummary, RestoreRequest
from restore_core.restore.survey import CLEAR, Survey, holds_digests, survey_disk, survey_known
from restore_core.targets.base import Stop


class Way(enum.Enum):
    """The ways to write a disk, with the words for the log."""

    NEW = "new disk"
    RESUME = "went on with the part file of an earlier attempt"
    NOTHING = "refresh: nothing differs"
    REDO = "refresh in place, through a redo file"
    CLONE = "refresh of a clone, then renamed"
    WHOLE = "replaced as a whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A way, the reason for it, and the survey that led to it (None: everything is written)."""

    way: Way
    why: str
    survey: Survey | None
    plan: PlanSummary

    def describe(self) -> str:
        """Returns a line for the log: "refresh in place, through a redo file: 312 of 16384 blocks (hashed what was there)"."""
        plan = self.plan
        total = plan.keep_blocks + plan.zero_blocks + plan.full_blocks + plan.delta_blocks
        if self.survey is None:
            return f"{self.way.value}{': ' if self.why else ''}{self.why}"
        moved = plan.full_blocks + plan.delta_blocks
        cleared = f" and {plan.zero_blocks} to be zeroed" if plan.zero_blocks else ""
        return f"{self.way.value}: {moved} of {total} blocks{cleared} ({self.why})"


def for_new(everything: PlanSummary, leftover: Survey | None) -> Decision:
    """Decides where no disk is there; `leftover` is the survey of the part file, if one is there."""
    if leftover is not None and leftover.plan.keep_bytes > 0:
        return Decision(way=Way.RESUME, why=leftover.by, survey=leftover, plan=leftover.plan)
    return Decision(way=Way.NEW, why="", survey=None, plan=everything)


def for_existing(everything: PlanSummary, survey: Survey, *, size: int) -> Decision:
    """Decides where a disk of `size` bytes is there and may be changed. If more than half of it differs, it is written anew."""
    plan = survey.plan
    differs = plan.full_bytes + plan.delta_bytes
    if differs == 0 and size == plan.disk_size and not any(CLEAR in actions for actions in survey.actions):
        return Decision(way=Way.NOTHING, why=survey.by, survey=survey, plan=plan)
    if differs * 2 > plan.disk_size:
        return by_whole("more than half of it differs", everything)
    if size > plan.disk_size:
        return by_whole("the disk shrinks", everything)
    return Decision(way=Way.REDO, why=survey.by, survey=survey, plan=plan)


def by_clone(decision: Decision) -> Decision:
    """Decides for the same refresh of a clone, which is then renamed: no redo file is needed where files can share blocks."""
    return replace(decision, way=Way.CLONE)


def by_whole(why: str, everything: PlanSummary) -> Decision:
    """Decides to write every block to a new file, which then takes the place of the disk."""
    return Decision(way=Way.WHOLE, why=why, survey=None, plan=everything)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The way to take, the disk that is there (open; None for a new one), and why its blocks must not be written in place."""

    decision: Decision
    disk: ExistingDisk | None
    not_in_place: str = ""


def may_be_ours(request: RestoreRequest, destination: Destination, record: dict[str, Any] | None) -> Receipt | None:
    """Returns the receipt of the disk that is there, unless the stamps say that somebody else wrote it. `record` is the hold's.

    `look` finds out whether they prove that nobody did.
    """
    facts = destination.stat_disk()
    receipt = Receipts(request.records, destination).load(facts)
    if facts is None or receipt is None:
        return None
    can = of_open_folder(destination.folder_fd)
    unknown = receipt.size == facts.st_size and False in (can.steady_times, can.steady_numbers)  # then `look` reads the disk
    return receipt if receipt.ours(facts) or unknown or _we_allocated(record, destination) else None


def _times_move(destination: Destination) -> bool:
    """Whether its file system gives a file a new time although nobody writes it."""
    return of_open_folder(destination.folder_fd).steady_times is False


def look(
    destination: Destination, request: RestoreRequest, delta: DeltaReader, part: int, *, stop: Stop, record: dict[str, Any] | None
) -> Found:
    """Decides the way. `part` is the part file, as an earlier attempt may have left it (-1: there is none). Changes nothing.

    Raises `DestinationInUse` if somebody has the disk open, `ChangedMeanwhile` if it changes while it is read, `Diverged` if only a
    disk of ours may be touched and this one turns out not to be ours.
    """
    if destination.stat_disk() is None:
        return Found(decision=for_new(plan_summary(delta), _leftover(delta, part, stop)), disk=None)
    disk = ExistingDisk.opened(destination)
    try:
        survey = _survey_existing(delta, disk, _trusted_digests(request, delta, disk, stop, record), stop)
        try:
            disk.surveyed()
        except ChangedMeanwhile:
            if not _times_move(destination):
                raise
            # rclone gives a file a new time when it is read for the first time: only the second reading can prove anything
            disk.accept_stamps()
            survey = _survey_existing(delta, disk, _trusted_digests(request, delta, disk, stop, record), stop)
            disk.surveyed()
        decision = for_existing(plan_summary(delta), survey, size=disk.stamps.size)
        # A large disk has many extents: they are read only where the answer matters.
        not_in_place = _why_not_in_place(disk) if decision.way is Way.REDO else ""
        return Found(decision=decision, disk=disk, not_in_place=not_in_place)
    except BaseException:
        disk.close()
        raise


def diverged(request: RestoreRequest) -> Diverged:
    """Returns the refusal of a disk that is not as we left it."""
    return Diverged(
        f"{printable(str(request.destination))}: somebody has written this disk since it was last restored",
        remedy="It may be the only copy of that work. To replace it all the same, restore by hand with overwrite = true.",
    )


def _why_not_in_place(disk: ExistingDisk) -> str:
    if disk.stamps.links > 1:
        return "it has another name (hard link), which must keep what it has"
    if _times_move(disk.destination):
        return "its file system gives files new times by itself"
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
    """Returns the digests of what is on the disk, if they are known to be right and of this Delta's kind; else None: read the disk.

    A receipt proves that nobody touched the disk. Where stamps prove nothing (another boot, a crash while we allocated, another
    ctime, which also a time that was set back leaves) and only a disk of ours may be touched, the disk is read here and must be as
    the receipt says. Raises `Diverged`.
    """
    receipt = may_be_ours(request, disk.destination, record)
    if receipt is None:
        if request.options.only_ours:
            raise diverged(request)
        return None
    proven = receipt.untouched(os.fstat(disk.fd))
    if not proven and not request.options.only_ours:
        return None
    digests = Receipts(request.records, disk.destination).digests(receipt)
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
    """Whether a crash came after we allocated blocks to this very disk, and before its receipt got the new stamps."""
    if record is None or record.get("doing") != ALLOCATING:
        return False
    fd = destination.open(destination.disk_name)
    try:
        return identity_of(fd).same(FileIdentity(inode=record["inode"], generation=record["generation"]))
    finally:
        os.close(fd)


def _leftover(delta: DeltaReader, part: int, stop: Stop) -> Survey | None:
    """Surveys the part file of an earlier attempt; None if it has not the size of the disk."""
    size = os.fstat(part).st_size if part >= 0 else 0
    return survey_disk(delta, part, size, stop) if size and size == delta.header.disk_size else None
