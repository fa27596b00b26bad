"""Which jobs to start now, and for each of the others why it waits. Pure: queue, running, limit and time in, a plan out.

Order: priority, then arrival, then name. A job that may not run yet (its file's time, its back-off) or whose
destination is taken or not mounted is passed over, never waited for by those behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_core.naming import printable

TURN = "waits for its turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One waiting job. Times are seconds since the epoch; `not_before` is the person's schedule, `next_try` the back-off."""

    name: str
    priority: int
    arrived_ns: int
    not_before: float
    next_try: float | None
    why_next_try: str
    destination: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a job does not start; `until` is None when it waits for something that is not a time.

    `behind` is the job that has its destination; `away` says that its datastore is not mounted, or is another disk.
    """

    why: str
    until: float | None = None
    behind: str | None = None
    away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Names to start, in order; the waits of all the others; when the next of them becomes due by the clock."""

    start: tuple[str, ...]
    waits: Mapping[str, Wait]
    next_due: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many workers at once, whether any at all, and what two paths to one disk have in common.

    `key` and `away` are asked only about jobs that could start: they look at the file system. `away` says why the datastore of a
    path is not there, empty when it is.
    """

    workers: int
    enabled: bool
    key: Callable[[Path], Hashable]
    away: Callable[[Path], str] = lambda _path: ""


def schedule(waiting: Collection[Candidate], running: Mapping[str, Path], *, limits: Limits, now: float) -> Plan:
    """The plan for this moment. `running` maps the name of each running job to its destination."""
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
    return Plan(start=tuple(start), waits=waits, next_due=min(due, default=None))


def in_order(waiting: Collection[Candidate]) -> Sequence[Candidate]:
    """The queue as it will be served."""
    return sorted(waiting, key=lambda job: (job.priority, job.arrived_ns, job.name))


def _not_now(job: Candidate, *, limits: Limits, now: float) -> Wait | None:
    if not limits.enabled:
        return Wait(why="the queue is disabled")
    if job.not_before > now:
        return Wait(why=f"scheduled, waits until {clock(job.not_before, now)}", until=job.not_before)
    if job.next_try is not None and job.next_try > now:
        return Wait(why=f"waits until {clock(job.next_try, now)}: {job.why_next_try}", until=job.next_try)
    return None


def _no_room(job: Candidate, taken: Mapping[Hashable, str], *, free: int, limits: Limits) -> Wait | None:
    if free > 0 and (why := limits.away(job.destination)):
        return Wait(why=f"waits for its datastore: {why}", away=True)
    behind = taken.get(job.destination) or (taken.get(limits.key(job.destination)) if free > 0 else None)
    if behind is not None:
        return Wait(why=f"waits for {printable(behind)}, same destination", behind=behind)
    return None if free > 0 else Wait(why=TURN)


def clock(when: float, now: float) -> str:
    """A time of day, with the date if it is not today; local."""
    same_day = time.localtime(when)[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", time.localtime(when))
