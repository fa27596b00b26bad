"""Restores one Delta: the order of all steps, from the first look to the final name.

    open the Delta, check head and metadata        BadArchive
    open the destination, hold it                  DestinationOutside, DestinationHeld
    complete what a crash interrupted              (recovery)
    refuse what must stay                          (refusals) DestinationExists, DestinationInUse, Diverged
    survey what is there, choose the way           (decide)
    prove the Full, if any block comes from it     BadArchive, ArchiveAbsent, TargetUnavailable
    enough space                                   NoSpace
    ---- no disk was touched so far ----
    fetch > decode > verify > write                BlockMismatch, BadArchive, TryAgainLater, Stopped
    fsync, read back on request
    prove that nobody uses the disk that is there  DestinationInUse, ChangedMeanwhile (survey again)
    publish: flat file first, descriptor last, then the VMX if it was asked for; put on record

The disk is held from the first look to the last act, so that two restores never work on one disk (docs/disk.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import clone
from restore_core.disk.alone import Alone
from restore_core.disk.destination import Destination
from restore_core.disk.hold import Hold
from restore_core.errors import TryAgainLater
from restore_core.restore import publish
from restore_core.restore.decide import Decision, Found, Way, by_clone, by_whole, diverged, look
from restore_core.restore.existing import ChangedMeanwhile
from restore_core.restore.fulls.find import copies_in_catalog, proven_copies
from restore_core.restore.part import held_destination, held_part
from restore_core.restore.plan import CopyFailed, plan_summary
from restore_core.restore.recovery import recover
from restore_core.restore.refusals import (
    refusals,
    refusals_before_recovery,
    refusals_of_missing_folders,
    refuse_existing,
    refuse_first,
    refuse_rights,
    refuse_rival,
    refuse_space,
)
from restore_core.restore.request import KeepPart, Reporter, RestoreOutcome, RestoreRequest
from restore_core.restore.writer import Writer
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, Stop

_SURVEYS_AGAIN = 2


def restore_delta(
    request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop, keep_part: KeepPart = lambda _error: False
) -> RestoreOutcome:
    """Restore one Delta to a new disk, or replace the one that is there when `overwrite` says so.

    Returns only when the disk is verified, durable and under its final name; raises a `PhdError` otherwise.
    """
    started = time.monotonic()
    with open_delta(request, targets) as delta:
        delta.check_metadata()
        reporter.note(f"Delta: {delta.where}, {delta.source.size} bytes, of {delta.header.describe()}")
        if delta.header.of_a_part:
            reporter.note(delta.header.of_a_part)
        refuse_first(refusals_of_missing_folders(request, delta))
        with held_destination(
            request.destination,
            roots=request.roots,
            make_folders=True,
            datastores=request.datastores,
            may=refuse_rival(request),
        ) as (destination, hold):
            refuse_first(refusals_before_recovery(destination))
            for note in recover(destination, hold, request.records, stop):
                reporter.note(note)
            refuse_first(refusals(destination, request, delta, hold.record()))
            with held_part(destination, mode=request.mode, keep_part=keep_part) as part:
                decision, full_ref = _Attempt(
                    request=request,
                    targets=targets,
                    reporter=reporter,
                    stop=stop,
                    started=started,
                    destination=destination,
                    hold=hold,
                    delta=delta,
                    part=part,
                ).write()
                hold.clear_record()  # that of a crash while blocks were allocated: the disk is on record now
            vmx = publish.put_vmx(destination, request, delta)
            destination.refuse_if_moved()
    return RestoreOutcome(
        destination=request.destination,
        disk_size=decision.plan.disk_size,
        plan=decision.plan,
        seconds=time.monotonic() - started,
        way=decision.describe(),
        full=full_ref,
        vmx=vmx,
    )


@contextmanager
def open_delta(request: RestoreRequest, targets: TargetSet) -> Iterator[DeltaReader]:
    """Opens the Delta of a request. Raises `BadArchive` if it is anything else."""
    with targets.open(request.delta) as source:
        yield DeltaReader(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One run of one restore: the destination is held, `part` is its part file."""

    request: RestoreRequest
    targets: TargetSet
    reporter: Reporter
    stop: Stop
    started: float
    destination: Destination
    hold: Hold
    delta: DeltaReader
    part: int

    def write(self) -> tuple[Decision, ArchiveRef | None]:
        """Write the disk from the first copy of the Full that can be read to its end; what was written from one copy is kept.

        A disk that somebody writes meanwhile is surveyed again; twice, then the job has to wait. With `only_ours` it is `Diverged`.
        """
        for surveys in count(1):
            try:
                return self._write_from_copies()
            except ChangedMeanwhile as change:
                self._survey_again(change, surveys)
                refuse_first(refusals(self.destination, self.request, self.delta, self.hold.record()))
        raise AssertionError("the loop ends by its return")

    def _write_from_copies(self) -> tuple[Decision, ArchiveRef | None]:
        known = copies_in_catalog(self.request, self.targets, self.reporter)
        failed: CopyFailed | None = None
        found = proven_copies(self.delta, self.request.full, self.targets, self.reporter, known=known)
        with contextlib.closing(found) as copies:
            while True:
                try:
                    return self._write_once(copies, failed)
                except CopyFailed as error:
                    self.reporter.note(f"{error.error.message}; looking for another copy of the Full")
                    failed = failed or error

    def _survey_again(self, change: ChangedMeanwhile, surveys: int) -> None:
        """Return if the disk may be surveyed again; else raise `Diverged` or `TryAgainLater`."""
        if self.request.options.only_ours and change.written:
            raise diverged(self.request) from change
        if surveys > _SURVEYS_AGAIN:
            raise TryAgainLater(
                f"{self.destination.where}: somebody changes the disk again and again: {change}",
                remedy="Find out who, and stop it. A queued job is tried again.",
            ) from change
        self.reporter.note(f"the disk is surveyed again: {change}")

    def _write_once(self, copies: Iterator[FullReader], failed: CopyFailed | None) -> tuple[Decision, ArchiveRef | None]:
        request, destination, delta = self.request, self.destination, self.delta
        found = look(destination, request, delta, self.part, stop=self.stop, record=self.hold.record())
        with found.disk or contextlib.nullcontext():
            if found.disk is not None and not request.options.overwrite:  # it may have come since `refusals` looked
                refuse_existing(destination, request, delta.header.delta_id, self.hold.record())
            if found.disk is not None and found.disk.lone is Alone.UNKNOWN:
                self.reporter.note(f"who has the disk open: {Alone.UNKNOWN.value}")
            decision = self._clone_if_needed(found)
            full = self._next_copy(copies, failed, wanted=decision.plan.full_blocks > 0)
            with full or contextlib.nullcontext():
                refuse_rights(destination, decision)
                refuse_space(destination, request, decision, delta, found.disk, taken=os.fstat(self.part).st_blocks * 512)
                self.reporter.note(decision.describe())
                self.reporter.planned(decision.plan)
                Writer(
                    request=request,
                    reporter=self.reporter,
                    stop=self.stop,
                    started=self.started,
                    destination=destination,
                    hold=self.hold,
                    delta=delta,
                    full=full,
                    decision=decision,
                    part=self.part,
                    disk=found.disk,
                ).write()
                return decision, full.source.ref if full is not None else None

    def _next_copy(self, copies: Iterator[FullReader], failed: CopyFailed | None, *, wanted: bool) -> FullReader | None:
        if not wanted and failed is None:  # a copy may fail behind its last block: then another one has to be sound
            self.reporter.note("the Full is not needed: no block comes from it")
            return None
        full = next(copies, None)
        if full is None and failed is not None:
            raise failed.error
        return full

    def _clone_if_needed(self, found: Found) -> Decision:
        """In place only where it is safe; a clone where the file system can share blocks; else the disk is replaced as a whole."""
        decision, disk = found.decision, found.disk
        if decision.way is not Way.REDO or disk is None:
            return decision
        os.ftruncate(self.part, 0)
        if clone(disk.fd, self.part):
            disk.surveyed()  # the clone holds what was surveyed
            return by_clone(decision)
        return by_whole(found.not_in_place, plan_summary(self.delta)) if found.not_in_place else decision
