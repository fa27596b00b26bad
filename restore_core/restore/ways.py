"""Which way a restore takes to a destination. A decision about data; `Writer` carries it out."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from restore_core.restore.request import PlanSummary
from restore_core.restore.survey import CLEAR, Survey


class Way(enum.Enum):
    """The ways, with the words for the log."""

    NEW = "new disk"
    RESUME = "went on with the part file of an earlier attempt"
    NOTHING = "refresh: nothing differs"
    REDO = "refresh in place, through a redo file"
    CLONE = "refresh of a clone, then renamed"
    WHOLE = "replaced as a whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A way, why it was taken, and the survey it rests on (None: everything is written)."""

    way: Way
    why: str
    survey: Survey | None
    plan: PlanSummary

    def describe(self) -> str:
        """For the log, e.g. "refresh in place, through a redo file: 312 of 16384 blocks (hashed what was there)"."""
        plan = self.plan
        total = plan.keep_blocks + plan.zero_blocks + plan.full_blocks + plan.delta_blocks
        if self.survey is None:
            return f"{self.way.value}{': ' if self.why else ''}{self.why}"
        moved = plan.full_blocks + plan.delta_blocks
        cleared = f" and {plan.zero_blocks} to be zeroed" if plan.zero_blocks else ""
        return f"{self.way.value}: {moved} of {total} blocks{cleared} ({self.why})"


def for_new(everything: PlanSummary, leftover: Survey | None) -> Decision:
    """No disk is there; perhaps a part file is, surveyed."""
    if leftover is not None and leftover.plan.keep_bytes > 0:
        return Decision(way=Way.RESUME, why=leftover.by, survey=leftover, plan=leftover.plan)
    return Decision(way=Way.NEW, why="", survey=None, plan=everything)


def for_existing(everything: PlanSummary, survey: Survey, *, size: int) -> Decision:
    """A disk of `size` bytes is there and may be changed. Half of a disk or more is cheaper, and safer, written anew."""
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
    """The same refresh, where the file system can share blocks: patch a clone, then rename it. No redo file is needed."""
    return replace(decision, way=Way.CLONE)


def by_whole(why: str, everything: PlanSummary) -> Decision:
    """Every block is written to a new file, which then takes the place of the disk."""
    return Decision(way=Way.WHOLE, why=why, survey=None, plan=everything)
