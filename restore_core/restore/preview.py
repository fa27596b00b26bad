"""Plans a restore without writing: what it would do, and why it would be refused, by the checks that a restore makes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.destination import Destination, open_destination
from restore_core.disk.hold import holder
from restore_core.errors import PhdError
from restore_core.restore.decide import Decision, Found, for_new, look
from restore_core.restore.existing import ChangedMeanwhile
from restore_core.restore.fulls.find import copies_in_catalog, proven_full
from restore_core.restore.plan import plan_summary
from restore_core.restore.refusals import (
    refusals,
    refusals_before_recovery,
    refusals_of_missing_folders,
    refuse_rights,
    refuse_rival,
    refuse_space,
)
from restore_core.restore.request import PlanSummary, Reporter, RestoreRequest
from restore_core.restore.run import open_delta
from restore_core.targets import TargetSet
from restore_core.targets.base import Stop, never_stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The plan, the way that would be taken, and every reason for which a restore would be refused now."""

    plan: PlanSummary
    way: str
    refusals: tuple[PhdError, ...]


def plan_delta(request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop = never_stop) -> Preview:
    """Returns what a restore would move, after checking both archives as a restore does. Surveys a disk that is there."""
    with open_delta(request, targets) as delta:
        delta.check_metadata()
        decision, refused = _decided(request, delta, stop)
        known = copies_in_catalog(request, targets, reporter)
        with proven_full(delta, request.full, targets, reporter, blocks=decision.plan.full_blocks, known=known):
            return Preview(plan=decision.plan, way=decision.describe(), refusals=tuple(refused))


def _decided(request: RestoreRequest, delta: DeltaReader, stop: Stop) -> tuple[Decision, list[PhdError]]:
    everything = for_new(plan_summary(delta), None)
    refused = list(refusals_of_missing_folders(request, delta))
    if not os.path.isdir(request.destination.parent):
        return everything, refused
    try:
        with open_destination(request.destination, roots=request.roots, make_folders=False) as destination:
            held = holder(destination.folder_fd, destination.disk_name, destination.where)
            refused += [held] if held is not None else []
            with _each_refusal_in(refused):
                refuse_rival(request)(destination)
            refused += refusals_before_recovery(destination)
            said = {one.message for one in refused}
            refused += [one for one in refusals(destination, request, delta, None) if one.message not in said]
            with _each_refusal_in(refused):
                return _surveyed(destination, request, delta, stop, refused), refused
    except PhdError as error:
        refused.append(error)
    return everything, refused


def _surveyed(
    destination: Destination, request: RestoreRequest, delta: DeltaReader, stop: Stop, refused: list[PhdError]
) -> Decision:
    found = Found(decision=for_new(plan_summary(delta), None), disk=None)
    if destination.stat_disk() is not None and request.options.overwrite:
        found = look(destination, request, delta, -1, stop=stop, record=None)
    with found.disk or contextlib.nullcontext():
        with _each_refusal_in(refused):
            refuse_rights(destination, found.decision)
        with _each_refusal_in(refused):
            refuse_space(destination, request, found.decision, delta, found.disk)
    return found.decision


@contextlib.contextmanager
def _each_refusal_in(refused: list[PhdError]) -> Iterator[None]:
    try:
        yield
    except ChangedMeanwhile as change:
        refused.append(PhdError(f"the disk changes while it is looked at: {change}"))
    except PhdError as error:
        if error.message not in {one.message for one in refused}:
            refused.append(error)
