"""The order of a Delta restore, from the first look to the final name.

open the Delta, check head and metadata        BadArchive
prove the Full, if any block comes from it     BadArchive, ArchiveAbsent, TargetUnavailable
open the destination, refuse what it holds     DestinationOutside, DestinationExists, DestinationInUse
enough space                                   NoSpace
---- nothing was written so far ----
part file, allocated                           DestinationError
fetch > decode > verify > write                BlockMismatch, BadArchive, TryAgainLater, Stopped
fsync, read back on request
publish: flat file first, descriptor last, then the VMX if it was asked for
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import create_part, refuse_if_no_space
from restore_core.disk.destination import Destination, open_destination
from restore_core.errors import from_os_error
from restore_core.naming import printable
from restore_core.restore import publish
from restore_core.restore.find_full import open_proven_full
from restore_core.restore.pipeline import Moved, Pipeline
from restore_core.restore.plan import summary
from restore_core.restore.request import Phase, PlanSummary, Progress, Provision, Reporter, RestoreOutcome, RestoreRequest, Stop
from restore_core.targets import TargetSet

KeepPart = Callable[[BaseException], bool]
"""Whether the part file stays after this error, for an attempt that will come."""


def restore_delta(
    request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop, keep_part: KeepPart = lambda _error: False
) -> RestoreOutcome:
    """Restore one Delta to a new disk, or replace the one that is there when `overwrite` says so.

    Returns only when the disk is verified, durable and under its final name; raises a `PhdError` otherwise.
    """
    return _Attempt(request=request, reporter=reporter, stop=stop, keep_part=keep_part).run(targets)


def plan_delta(request: RestoreRequest, targets: TargetSet, *, reporter: Reporter) -> PlanSummary:
    """What a restore would move, after the same checks of both archives that a restore makes; nothing is written."""
    with open_delta(request, targets) as delta:
        delta.check_metadata()
        with _proven_full(delta, request, targets, reporter):
            return summary(delta)


@contextmanager
def open_delta(request: RestoreRequest, targets: TargetSet) -> Iterator[DeltaReader]:
    """The Delta of a request, opened; `BadArchive` if it is anything else."""
    with targets.open(request.delta) as source:
        yield DeltaReader(source)


@contextmanager
def _proven_full(
    delta: DeltaReader, request: RestoreRequest, targets: TargetSet, reporter: Reporter
) -> Iterator[FullReader | None]:
    full = open_proven_full(delta, request.full, targets, reporter)
    try:
        yield full
    finally:
        if full is not None:
            full.source.close()


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
        with open_delta(request, targets) as delta:
            delta.check_metadata()
            plan = summary(delta)
            with (
                _proven_full(delta, request, targets, self.reporter) as full,
                open_destination(request.destination, roots=request.roots, make_folders=True) as destination,
            ):
                replaced = self._preflight(destination, delta, plan)
                self.reporter.planned(plan)
                self._write(destination, delta, full, plan)
                vmx = publish.put_vmx(destination, request, delta)
        return RestoreOutcome(
            destination=request.destination,
            disk_size=plan.disk_size,
            plan=plan,
            seconds=time.monotonic() - self.started,
            way="replaced the disk that was there, as a whole" if replaced else "new disk",
            full=full.source.ref if full else None,
            vmx=vmx,
        )

    def _preflight(self, destination: Destination, delta: DeltaReader, plan: PlanSummary) -> bool:
        """Refuse what cannot end well; whether a disk will be replaced."""
        publish.refuse_existing(destination, self.request)
        publish.refuse_contents(destination, self.request, delta)
        thick = self.request.provision is Provision.THICK
        needed = plan.disk_size if thick else plan.full_bytes + plan.delta_bytes
        leftover = publish.allocated(destination, destination.part_name)
        refuse_if_no_space(destination, needed=needed, reserved=self.request.reserved, reusable=leftover)
        return destination.stat_disk() is not None

    def _write(self, destination: Destination, delta: DeltaReader, full: FullReader | None, plan: PlanSummary) -> None:
        request = self.request
        fd, note = create_part(destination, size=plan.disk_size, thick=request.provision is Provision.THICK, mode=request.mode)
        if note:
            self.reporter.note(note)
        try:
            self._fill(fd, delta, full, plan)
            publish.publish(destination, request, fd, size=plan.disk_size, original=delta.text("descriptor"))
        except BaseException as error:
            if not self.keep_part(error):
                with contextlib.suppress(OSError):
                    durable.remove(destination.part_name, dir_fd=destination.folder_fd)
            if isinstance(error, OSError):
                raise from_os_error(error, doing="making the disk durable", where=printable(str(request.destination))) from error
            raise
        finally:
            os.close(fd)

    def _fill(self, fd: int, delta: DeltaReader, full: FullReader | None, plan: PlanSummary) -> None:
        """Every block, verified and durable."""
        where = printable(str(self.request.destination))
        report = _Progress(plan, self.reporter, self.started)
        Pipeline(delta, full, fd, where=where).run(report.tick, self.stop)
        report.phase(Phase.FLUSH)
        durable.sync_file(fd)
        if self.request.readback:
            report.phase(Phase.READBACK)
            publish.read_back(delta, fd, where, self.stop)
        report.phase(Phase.PUBLISH)
        self.stop()


class _Progress:
    """Turns what the pipeline moved into `Progress`. Zero blocks count as done from the start: they cost nothing."""

    def __init__(self, plan: PlanSummary, reporter: Reporter, started: float) -> None:
        self._plan, self._reporter, self._started = plan, reporter, started
        self._moved = Moved()
        self._phase = Phase.RESTORE

    def tick(self, moved: Moved) -> None:
        """Report."""
        self._moved = moved
        plan = self._plan
        done = moved.delta + moved.full
        self._reporter.progress(
            Progress(
                phase=self._phase,
                disk_size=plan.disk_size,
                done=plan.zero_bytes + plan.keep_bytes + done,
                moved=done,
                delta_done=moved.delta,
                delta_total=plan.delta_bytes,
                full_done=moved.full,
                full_total=plan.full_bytes,
                started=self._started,
            )
        )

    def phase(self, phase: Phase) -> None:
        """Enter a phase, and report."""
        self._phase = phase
        self.tick(self._moved)
