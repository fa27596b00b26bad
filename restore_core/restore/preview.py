"""Plans a restore without writing: what it would do, and why it would be refused, by the checks that a restore makes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.allocation import can_clone
from restore_core.disk.destination import Destination, open_destination
from restore_core.disk.hold import holder, recorded
from restore_core.errors import PhdError, Stopped, from_os_error
from restore_core.naming import printable
from restore_core.restore.decide import Decision, Found, Way, by_clone, by_whole, for_new, look
from restore_core.restore.existing import ChangedMeanwhile
from restore_core.restore.fulls.find import copies_in_catalog, proven_full
from restore_core.restore.plan import plan_summary
from restore_core.restore.recovery import refuse_recovery
from restore_core.restore.refusals import (
    refusals,
    refusals_before_recovery,
    refusals_of_missing_folders,
    refuse_rights,
    refuse_rival,
    refuse_space,
    there_already,
)
from restore_core.restore.replacement_end import name_without
from restore_core.restore.request import PlanSummary, Reporter, RestoreRequest
from restore_core.restore.run import open_delta
from restore_core.targets import TargetSet
from restore_core.targets.base import Stop, never_stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The plan, the way that would be taken, and every reason for which a restore would be refused now, in the restore's order.

    `exists`: a disk or a descriptor is there. Without `overwrite` the plan is that of a restore with it.
    """

    plan: PlanSummary
    way: str
    refusals: tuple[PhdError, ...]
    exists: bool


def plan_delta(request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop = never_stop) -> Preview:
    """Returns what a restore would move, after checking both archives as a restore does. Surveys a disk that is there."""
    with open_delta(request, targets) as delta:
        delta.check_metadata()
        asked = _Question(request=request, targets=targets, delta=delta, reporter=reporter, stop=stop)
        decision = asked.decided()
        return Preview(plan=decision.plan, way=decision.describe(), refusals=tuple(asked.refused), exists=asked.exists)


@dataclass(slots=True, kw_only=True)
class _Question:
    """One plan while it is made: the steps of a restore in their order, each of which may add a refusal."""

    request: RestoreRequest
    targets: TargetSet
    delta: DeltaReader
    reporter: Reporter
    stop: Stop
    refused: list[PhdError] = field(default_factory=list)
    exists: bool = False

    def decided(self) -> Decision:
        """Returns the way that would be taken; that of a new disk where the destination cannot be looked at."""
        self.refused += refusals_of_missing_folders(self.request, self.delta)
        with self._refusing(), contextlib.ExitStack() as stack:
            if os.path.isdir(self.request.destination.parent):
                there = open_destination(self.request.destination, roots=self.request.roots, make_folders=False)
                return self._at(stack.enter_context(there))
        everything = for_new(plan_summary(self.delta), None)
        self._prove_full(everything)
        return everything

    def _at(self, destination: Destination) -> Decision:
        request = self.request
        held = holder(destination.folder_fd, destination.disk_name, destination.where)
        self.refused += [held] if held is not None else []
        with self._refusing():
            refuse_rival(request)(destination)
        self.refused += refusals_before_recovery(destination)
        record = recorded(destination.folder_fd, destination.disk_name)
        with self._refusing():
            refuse_recovery(destination, record, request.records, self.stop)
        without = name_without(destination, record)
        self.exists = without is not None or destination.stat_descriptor() is not None or destination.stat_disk() is not None
        if without is not None and not request.options.overwrite:
            self.refused.append(there_already(destination))
        for one in refusals(destination, request, self.delta, record):
            self._refuse(one)
        with self._part(destination) as part:
            return self._surveyed(destination if without is None else replace(destination, disk_name=without), part)

    def _surveyed(self, destination: Destination, part: int) -> Decision:
        """Returns the way to write the disk that is there. `destination` has the name that it has now."""
        decision, taken = for_new(plan_summary(self.delta), None), 0
        found = Found(decision=decision, disk=None)
        with contextlib.ExitStack() as stack:
            with self._refusing():
                found = look(destination, self.request, self.delta, part, stop=self.stop, record=None)
                stack.enter_context(found.disk or contextlib.nullcontext())
                decision = self._as_cloned(destination, found)
                taken = os.fstat(part).st_blocks * 512 if part >= 0 else 0
            self._prove_full(decision)
            with self._refusing():
                refuse_rights(destination, decision)
            with self._refusing():
                refuse_space(destination, self.request, decision, self.delta, found.disk, taken=taken)
        return decision

    def _as_cloned(self, destination: Destination, found: Found) -> Decision:
        """Returns the decision as a restore makes it when it has its part file: a clone, or the disk as a whole."""
        decision = found.decision
        if decision.way is not Way.REDO or found.disk is None:
            return decision
        if can_clone(found.disk.fd, destination.folder_fd):
            return by_clone(decision)
        return by_whole(found.not_in_place, plan_summary(self.delta)) if found.not_in_place else decision

    def _prove_full(self, decision: Decision) -> None:
        known = copies_in_catalog(self.request, self.targets, self.reporter)
        blocks = decision.plan.full_blocks
        with (
            self._refusing(),
            proven_full(self.delta, self.request.full, self.targets, self.reporter, blocks=blocks, known=known),
        ):
            pass

    @contextlib.contextmanager
    def _part(self, destination: Destination) -> Iterator[int]:
        """Opens the part file of an earlier attempt; -1 where none can be read."""
        fd = -1
        try:
            fd = destination.open(destination.part_name, os.O_RDWR)
        except PermissionError as error:  # another user's
            self._refuse(from_os_error(error, doing="making the part file", where=destination.where))
        except OSError:  # there is none, or a link, which a restore removes
            pass
        try:
            yield fd
        finally:
            if fd >= 0:
                os.close(fd)

    def _refuse(self, error: PhdError) -> None:
        if error.message not in {one.message for one in self.refused}:
            self.refused.append(error)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Takes what the block raises as a refusal. `Stopped` goes on: a person has typed ^C."""
        try:
            yield
        except ChangedMeanwhile as change:
            self._refuse(PhdError(f"the disk changes while it is looked at: {change}"))
        except Stopped:
            raise
        except PhdError as error:
            self._refuse(error)
        except OSError as error:
            self._refuse(from_os_error(error, doing="writing the disk", where=printable(str(self.request.destination))))
