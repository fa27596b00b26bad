"""The order of a Delta restore, from the first look to the final name.

    open the Delta, check head and metadata        BadArchive
    open the destination, complete what a crash    DestinationOutside
      interrupted, refuse what must stay           DestinationExists, DestinationInUse, Diverged
    survey what is there, choose the way           (situation, ways)
    prove the Full, if any block comes from it     BadArchive, ArchiveAbsent, TargetUnavailable
    enough space                                   NoSpace
    ---- no disk was touched so far ----
    fetch > decode > verify > write                BlockMismatch, BadArchive, TryAgainLater, Stopped
    fsync, read back on request, put on record
    publish: flat file first, descriptor last, then the VMX if it was asked for

The part file is taken first of all and held to the end, so that two restores never work on one disk.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import clone, refuse_if_no_space
from restore_core.disk.destination import Destination, open_destination
from restore_core.restore import publish, receipt, redo
from restore_core.restore.find_full import proven_copies, proven_full
from restore_core.restore.known import copies_in_catalog
from restore_core.restore.part import held_part
from restore_core.restore.plan import summary
from restore_core.restore.request import KeepPart, PlanSummary, Provision, Reporter, RestoreOutcome, RestoreRequest, Stop
from restore_core.restore.situation import look, refuse
from restore_core.restore.ways import Decision, Way, by_clone
from restore_core.restore.writer import CopyFailed, Writer
from restore_core.targets import TargetSet
from restore_core.targets.attend import go_on
from restore_core.targets.base import ArchiveRef


def restore_delta(
    request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop, keep_part: KeepPart = lambda _error: False
) -> RestoreOutcome:
    """Restore one Delta to a new disk, or replace the one that is there when `overwrite` says so.

    Returns only when the disk is verified, durable and under its final name; raises a `PhdError` otherwise.
    """
    return _Attempt(request=request, reporter=reporter, stop=stop, keep_part=keep_part).run(targets)


def plan_delta(request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop = go_on) -> PlanSummary:
    """What a restore would move, after the same checks of both archives that a restore makes; nothing is written.

    With `overwrite` a disk that is there is surveyed first, as a refresh does it.
    """
    with open_delta(request, targets) as delta:
        delta.check_metadata()
        plan = _surveyed(request, delta, stop) if request.overwrite else None
        plan = plan or summary(delta)
        known = copies_in_catalog(request, targets, reporter)
        with proven_full(delta, request.full, targets, reporter, blocks=plan.full_blocks, known=known):
            return plan


def _surveyed(request: RestoreRequest, delta: DeltaReader, stop: Stop) -> PlanSummary | None:
    """The plan for the disk that is there, None if there is none."""
    if not request.destination.parent.exists():
        return None
    with open_destination(request.destination, roots=request.roots, make_folders=False) as destination:
        if destination.stat_disk() is None:
            return None
        return look(destination, request, delta, -1, stop).plan


@contextmanager
def open_delta(request: RestoreRequest, targets: TargetSet) -> Iterator[DeltaReader]:
    """The Delta of a request, opened; `BadArchive` if it is anything else."""
    with targets.open(request.delta) as source:
        yield DeltaReader(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One run of one restore."""

    request: RestoreRequest
    reporter: Reporter
    stop: Stop
    keep_part: KeepPart
    started: float = field(default_factory=time.monotonic)

    def run(self, targets: TargetSet) -> RestoreOutcome:
        request = self.request
        with (
            open_delta(request, targets) as delta,
            open_destination(request.destination, roots=request.roots, make_folders=True) as destination,
        ):
            delta.check_metadata()
            self.reporter.note(f"Delta: {delta.where}, {delta.source.size} bytes, of {delta.header.describe()}")
            with held_part(destination, mode=request.mode, keep_part=self.keep_part) as part:
                recovered = redo.recover(
                    destination, lambda delta_id, disk: receipt.claim(request.records, destination, delta_id, os.fstat(disk))
                )
                if recovered:
                    self.reporter.note(recovered)
                refuse(destination, request, delta.header)
                publish.refuse_contents(destination, request, delta)
                decision, full_ref = self._write(destination, delta, targets, part)
            vmx = publish.put_vmx(destination, request, delta)
        return RestoreOutcome(
            destination=request.destination,
            disk_size=decision.plan.disk_size,
            plan=decision.plan,
            seconds=time.monotonic() - self.started,
            way=decision.describe(),
            full=full_ref,
            vmx=vmx,
        )

    def _write(
        self, destination: Destination, delta: DeltaReader, targets: TargetSet, part: int
    ) -> tuple[Decision, ArchiveRef | None]:
        """Write the disk from the first copy of the Full that holds out; what was written from one is kept for the next."""
        known = copies_in_catalog(self.request, targets, self.reporter)
        with contextlib.closing(proven_copies(delta, self.request.full, targets, self.reporter, known=known)) as copies:
            return self._write_from(copies, destination, delta, part)

    def _write_from(
        self, copies: Iterator[FullReader], destination: Destination, delta: DeltaReader, part: int
    ) -> tuple[Decision, ArchiveRef | None]:
        failed: CopyFailed | None = None
        while True:
            decision = look(destination, self.request, delta, part, self.stop)
            decision = self._clone_if_possible(destination, decision, part)
            full = self._next_copy(copies, failed, wanted=decision.plan.full_blocks > 0)
            with full or contextlib.nullcontext():
                self._refuse_space(destination, decision, part)
                self.reporter.note(decision.describe())
                self.reporter.planned(decision.plan)
                try:
                    self._writer(destination, delta, full, decision, part).write()
                except CopyFailed as error:
                    self.reporter.note(f"{error.error.message}; looking for another copy of the Full")
                    failed = failed or error
                else:
                    return decision, full.source.ref if full is not None else None

    def _next_copy(self, copies: Iterator[FullReader], failed: CopyFailed | None, *, wanted: bool) -> FullReader | None:
        if not wanted:
            self.reporter.note("the Full is not needed: no block comes from it")
            return None
        full = next(copies, None)
        if full is None and failed is not None:
            raise failed.error
        return full

    def _writer(
        self, destination: Destination, delta: DeltaReader, full: FullReader | None, decision: Decision, part: int
    ) -> Writer:
        return Writer(
            request=self.request,
            reporter=self.reporter,
            stop=self.stop,
            started=self.started,
            destination=destination,
            delta=delta,
            full=full,
            decision=decision,
            part=part,
        )

    def _clone_if_possible(self, destination: Destination, decision: Decision, part: int) -> Decision:
        if decision.way is not Way.REDO:
            return decision
        disk = os.open(destination.disk_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=destination.folder_fd)
        try:
            os.ftruncate(part, 0)
            return by_clone(decision) if clone(disk, part) else decision
        finally:
            os.close(disk)

    def _refuse_space(self, destination: Destination, decision: Decision, part: int) -> None:
        plan, facts = decision.plan, destination.stat_disk()
        moved = plan.full_bytes + plan.delta_bytes
        whole = decision.way in (Way.NEW, Way.RESUME, Way.WHOLE)
        thick = whole and self.request.provision is Provision.THICK
        grown = max(0, plan.disk_size - facts.st_size) if facts is not None and not whole else 0
        taken = os.fstat(part).st_blocks * 512 if whole else 0
        needed = plan.disk_size if thick else moved + grown
        refuse_if_no_space(destination, needed=needed, reserved=self.request.reserved, reusable=taken, thin=not thick)
