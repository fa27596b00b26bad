"""The restore queue: its jobs, and what a person can do to each of them. What only changes jobs is imported when it is used."""

from __future__ import annotations

import enum
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phd_daemon.operations.installation import spool_of
from phd_daemon.spool.layout import Act
from phd_daemon.spool.snapshot import JobView, ReadStatuses, nobody_serves, snapshot, strays
from restore_core.errors import PhdError

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from phd_daemon.spool.requests import EndedJob


class Obstacle(enum.Enum):
    """Why no job of the queue is started now."""

    SWITCHED_OFF = "switched off"
    NO_DAEMON = "no daemon"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAnswer:
    """What came of an act for one job; `refusal` is None if it was done."""

    job: str
    refusal: PhdError | None


def obstacle(settings: Config) -> Obstacle | None:
    """Returns why a job in the queue would only wait; None if it can be started."""
    if not settings.queue.enabled:
        return Obstacle.SWITCHED_OFF
    return Obstacle.NO_DAEMON if nobody_serves(settings.queue.spool) else None


def jobs(settings: Config, known: ReadStatuses | None = None) -> tuple[JobView, ...]:
    """Returns all jobs: those that run, those that wait in their order, held ones, finished ones with the newest last.

    Give the same `known` each time to look again and again.
    """
    return snapshot(spool_of(settings).folder, time.time(), known)


def never_read(settings: Config) -> dict[str, str]:
    """Returns the files in the spool that are no control files though a person may think so, each with the reason."""
    return strays(spool_of(settings).folder)


def possible(job: JobView) -> tuple[Act, ...]:
    """Returns what can be done to a job as it is now."""
    waits_for_next_try = {Act.RETRY} if job.next_try is not None and job.next_try > time.time() else set()
    allowed = job.state.acts | waits_for_next_try
    return tuple(one for one in Act if one in allowed)


def act(settings: Config, what: Act, names: Iterable[str]) -> Iterator[JobAnswer]:
    """Does it to each job, and yields what came of it; a refusal does not end the rest. Raises `OSError`."""
    from phd_daemon.spool import requests

    do = {Act.HOLD: requests.hold, Act.RELEASE: requests.release, Act.CANCEL: requests.cancel, Act.RETRY: requests.retry}[what]
    folder = spool_of(settings).folder
    for name in names:
        refusal = None
        try:
            do(folder, name)
        except PhdError as error:
            refusal = error
        yield JobAnswer(job=name, refusal=refusal)


def set_priority(settings: Config, name: str, number: int) -> int:
    """Gives a waiting job a priority, 0 (first) to 9 (last). Returns the one it had. Raises `UsageError`, `OSError`."""
    from phd_daemon.spool import requests

    return requests.set_priority(spool_of(settings).folder, name, number)


def removable(settings: Config, names: Collection[str] = (), *, older_than: float | None = None, now: float) -> list[EndedJob]:
    """Returns what `clean` would remove, with the states and the bytes of each job. Raises `UsageError`, `OSError`."""
    from phd_daemon.spool import requests

    return requests.to_clean(spool_of(settings).folder, names, older_than=older_than, now=now)


def clean(settings: Config, names: Collection[str] = (), *, older_than: float | None = None, now: float | None = None) -> list[str]:
    """Removes finished jobs with their logs: those named, all, or all that ended `older_than` seconds ago.

    `now` is the moment that is counted from, None for this one. Returns their names. Raises `UsageError`, `OSError`.
    """
    from phd_daemon.spool import requests

    moment = time.time() if now is None else now
    return requests.clean(spool_of(settings).folder, names, older_than=older_than, now=moment)
