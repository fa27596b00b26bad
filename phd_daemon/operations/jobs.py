"""What can be done to a job of the queue, and does it."""

from __future__ import annotations

import enum

from phd_daemon.spool.layout import State
from phd_daemon.spool.snapshot import JobView


class Act(enum.Enum):
    """What can be done to a job."""

    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    RETRY = "try again"
    PRIORITY = "another priority"
    REMOVE = "remove"


def acts_for(view: JobView, now: float) -> list[Act]:
    """Returns what can be done to the job in its state."""
    if view.state.final:
        return [Act.RETRY, Act.REMOVE]
    acts = []
    if view.state is State.HELD:
        acts = [Act.RELEASE]
    if view.state is State.WAITING:
        acts = [Act.HOLD, Act.PRIORITY]
        if view.next_try is not None and view.next_try > now:
            acts.append(Act.RETRY)
    return [*acts, Act.CANCEL]
