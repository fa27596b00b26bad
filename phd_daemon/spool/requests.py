"""What a person may do to a job, for the command line and the console alike: a rename, or an unlink, and nothing else.

    hold      .job -> .held              cancel    .job, .held, .running -> .cancelled
    release   .held -> .job              retry     .done, .failed, .cancelled, .rejected -> .job; a touch where it waits for a try
    clean     unlink finished jobs with their logs

The daemon sees it and does the rest; when it is not running, as soon as it is.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection
from pathlib import Path

from phd_daemon.spool.drop import rename
from phd_daemon.spool.layout import Spool, State, is_stem
from phd_daemon.spool.purge import finished, purge, remove
from phd_daemon.spool.status_file import read_status
from phd_daemon.spool.transitions import free_rotation
from restore_core import durable
from restore_core.errors import UsageError
from restore_core.naming import printable


def hold(folder: Path, job: str) -> None:
    """Park a waiting job. Raises `UsageError` when it is not waiting, `OSError`."""
    _rename(folder, job, (State.WAITING,), State.HELD, verb="held")


def release(folder: Path, job: str) -> None:
    """Let a held job wait for its turn again. Raises `UsageError` when it is not held, `OSError`."""
    _rename(folder, job, (State.HELD,), State.WAITING, verb="released")


def cancel(folder: Path, job: str) -> None:
    """Cancel a job that waits or runs. Raises `UsageError` when it does neither, `OSError`."""
    _rename(folder, job, (State.RUNNING, State.WAITING, State.HELD), State.CANCELLED, verb="cancelled")


def retry(folder: Path, job: str) -> None:
    """Let a finished or rejected job wait again, and one that waits for its next try not wait for it any longer.

    Raises `UsageError` when it is neither, `OSError`.
    """
    if is_stem(job) and _in_back_off(Spool(folder=folder), job):
        _touch(Spool(folder=folder).control(job, State.WAITING))
        return
    finals = (State.FAILED, State.CANCELLED, State.REJECTED, State.DONE)
    _rename(folder, job, finals, State.WAITING, verb="tried again")


def _touch(path: Path) -> None:
    """As touch(1): opened for writing, so that the doorbell hears it close. A change of times alone rings nothing."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


def clean(folder: Path, jobs: Collection[str] = (), *, older_than: float | None = None, now: float = 0.0) -> list[str]:
    """Remove finished jobs with their logs: those named, or all, or all that ended `older_than` seconds before `now`.

    Returns their names. Raises `UsageError` for a named one that is not finished, `OSError`.
    """
    spool = Spool(folder=folder)
    if older_than is not None:
        return purge(spool, older_than=older_than, now=now, busy=())
    done = finished(spool)
    for job in jobs:
        if job not in done:
            raise UsageError(
                f"{printable(job)} cannot be cleaned up: {described(folder, job)}", remedy="Only finished jobs can be."
            )
    gone = list(jobs) or done
    for job in gone:
        remove(spool, job)
    return gone


def states(folder: Path, job: str) -> tuple[State, ...]:
    """The states in which a control file of this name lies there now; usually one."""
    spool = Spool(folder=folder)
    return tuple(state for state in State if os.path.lexists(spool.control(job, state))) if is_stem(job) else ()


def _in_back_off(spool: Spool, job: str) -> bool:
    status = read_status(spool.status(job))
    waits = status is not None and status.next_try is not None and status.next_try > time.time()
    return waits and states(spool.folder, job) == (State.WAITING,)


def _rename(folder: Path, job: str, sources: Collection[State], to: State, *, verb: str) -> None:
    spool = Spool(folder=folder)
    for source in sources if is_stem(job) else ():
        try:
            rename(spool.control(job, source), spool.control(job, to))
            return
        except FileNotFoundError:
            continue
        except FileExistsError:
            if source is State.RUNNING:  # an old .cancelled lies there: taking the running file away says the same
                durable.remove(spool.control(job, source))
                return
            if to is State.CANCELLED and _out_of_the_way(spool, job, to):
                rename(spool.control(job, source), spool.control(job, to))
                return
            raise UsageError(
                f"{printable(job)} cannot be {verb}: {printable(job)}.{to.value} exists already",
                remedy=_make_way(spool, job, source, to),
            ) from None
    may = " or ".join(state.meaning for state in sources)
    raise UsageError(f"{printable(job)} cannot be {verb}: {described(folder, job)}", remedy=f"It must be {may}; see 'phd queue'.")


def _out_of_the_way(spool: Spool, job: str, state: State) -> bool:
    """Give an older file of that name the next free crm.~N, as the daemon does; False where it is another user's."""
    try:
        rename(spool.control(job, state), spool.control(free_rotation(spool, job), state))
    except PermissionError:
        return False
    return True


def _make_way(spool: Spool, job: str, source: State, to: State) -> str:
    dashes = "-- " if job.startswith("-") else ""  # or the name is read as options
    free = free_rotation(spool, job)
    named, own, there, freed = (
        shlex.quote(printable(name)) for name in (job, f"{job}.{source.value}", f"{job}.{to.value}", f"{free}.{to.value}")
    )
    if to is State.CANCELLED:
        return f"That file is another user's. Remove yours instead ('rm {dashes}{own}')."
    if to is State.HELD or not os.path.isfile(spool.control(job, to)):
        return f"Give what has that name another one first ('mv {dashes}{there} {freed}' in the spool)."
    return f"Two jobs have that name, and one of them waits: let it run first, or cancel it ('phd cancel {dashes}{named}')."


def described(folder: Path, job: str) -> str:
    """The states of a job in words, as the end of a sentence that says why something cannot be done to it."""
    found = states(folder, job)
    return "it is " + " and ".join(state.meaning for state in found) if found else "there is no such job"
