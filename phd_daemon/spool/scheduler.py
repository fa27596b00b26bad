"""Decides which jobs start now, and why each of the others waits. A pure function of queue, running jobs, limits and time.

The order is by priority, then arrival, then name. A job that may not run yet (its file's time, its next try), or whose destination
is in use or not mounted, is passed over: the jobs behind it do not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_core.naming import printable

TURN = "waits for its turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """One waiting job. Times are seconds since the epoch; `not_before` is the time its submitter asked for."""

    name: str
    priority: int
    arrived_ns: int
    not_before: float
    next_try: float | None
    why_next_try: str
    destination: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a job does not start; `until` is None if it waits for something else than a time.

    `behind` is the job that uses its destination; `unmounted` says that its datastore is not mounted, or is another disk.
    """

    why: str
    until: float | None = None
    behind: str | None = None
    unmounted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlan:
    """The jobs to start, in order; why each other one waits; when the first of those that wait for a time becomes due."""

    start: tuple[str, ...]
    waits: Mapping[str, Wait]
    next_due: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimits:
    """How many workers may run at once, and whether any may start.

    `key` is equal for two paths to one disk. `unmounted` returns why the datastore of a path is not there, empty if it is there.
    Both look at the file system, so they are called only for jobs that could start.
    """

    workers: int
    enabled: bool
    key: Callable[[Path], Hashable]
    unmounted: Callable[[Path], str] = lambda _path: ""


def schedule(waiting: Collection[WaitingJob], running: Mapping[str, Path], *, limits: StartLimits, now: float) -> StartPlan:
    """Returns the plan for this moment. `running` maps the name of each running job to its destination."""
    start: list[str] = []
    waits: dict[str, Wait] = {}
    free = limits.workers - len(running)
    taken: dict[Hashable, str] = {path: name for name, path in running.items()}
    if free > 0:
        taken |= {limits.key(path): name for name, path in running.items()}
    for job in in_order(waiting):
        wait = _not_now(job, limits=limits, now=now) or _no_room(job, taken, free=free - len(start), limits=limits)
        if wait is None:
            start.append(job.name)
            taken |= {job.destination: job.name, limits.key(job.destination): job.name}
        else:
            waits[job.name] = wait
    due = [wait.until for wait in waits.values() if wait.until is not None]
    return StartPlan(start=tuple(start), waits=waits, next_due=min(due, default=None))


def in_order(waiting: Collection[WaitingJob]) -> Sequence[WaitingJob]:
    """Returns the jobs in the order in which they will start."""
    return sorted(waiting, key=lambda job: (job.priority, job.arrived_ns, job.name))


def _not_now(job: WaitingJob, *, limits: StartLimits, now: float) -> Wait | None:
    if not limits.enabled:
        return Wait(why="the queue is disabled")
    if job.not_before > now:
        return Wait(why=f"scheduled, waits until {time_of_day(job.not_before, now)}", until=job.not_before)
    if job.next_try is not None and job.next_try > now:
        return Wait(why=f"waits until {time_of_day(job.next_try, now)}: {job.why_next_try}", until=job.next_try)
    return None


def _no_room(job: WaitingJob, taken: Mapping[Hashable, str], *, free: int, limits: StartLimits) -> Wait | None:
    if free > 0 and (why := limits.unmounted(job.destination)):
        return Wait(why=f"waits for its datastore: {why}", unmounted=True)
    behind = taken.get(job.destination) or (taken.get(limits.key(job.destination)) if free > 0 else None)
    if behind is not None:
        return Wait(why=f"waits for {printable(behind)}, same destination", behind=behind)
    return None if free > 0 else Wait(why=TURN)


def time_of_day(when: float, now: float) -> str:
    """Returns the local time, with the date if it is not today."""
    same_day = time.localtime(when)[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", time.localtime(when))
