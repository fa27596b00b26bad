"""The spool as plain data, for the command line and the console.

It is read from the folder and the status files only, so it is right without a daemon, and whoever may list the spool may read it.
Times are seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from phd_daemon.spool.access import user_name
from phd_daemon.spool.layout import STATUS, Spool, State, parse_name, rotated_of, why_no_job
from phd_daemon.spool.locks import holder
from phd_daemon.spool.scheduler import TURN, time_of_day
from phd_daemon.spool.status_file import JobStatus, LiveProgress, read_status

_LOG_OWNERS = sorted(State, key=lambda state: (state is not State.RUNNING, -state.place))
"""Which of several control files of one name the log most likely belongs to, the most likely state first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One control file, with what its status file says of it.

    `since` is when it came (waiting), was held, began (running) or ended. `why` says why it waits, or how it ended; `until` is the
    time it waits for, `next_try` that of its next try. `accepted` is False if the daemon has not accepted it yet. `rotated` marks
    the older ones of a name that was used again (`crm.~1`).
    """

    name: str
    state: State
    submitter: str
    accepted: bool
    delta: str
    restore_to: str
    priority: int
    note: str
    attempt: int
    since: float
    why: str
    until: float | None
    next_try: float | None
    progress: LiveProgress | None
    exit_code: int | None
    rotated: bool


ReadStatuses: TypeAlias = dict[str, tuple[tuple[int, ...], JobStatus | None]]
"""Status files by the names of their jobs: which file it was when it was read, and what it said. Two threads may share it."""


def snapshot(folder: Path, now: float, known: ReadStatuses | None = None) -> tuple[JobView, ...]:
    """Returns every job: running ones first, then the queue in its order, held ones, finished ones with the newest last.

    Whoever looks again and again gives the same `known` each time: of 5,000 status files only those that changed are read then.
    Raises `OSError` if the spool cannot be read.
    """
    spool = Spool(folder=folder)
    found: dict[str, dict[State, os.stat_result]] = {}
    files_of_status: dict[str, os.stat_result] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            parsed = parse_name(entry.name)
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                if entry.name.endswith(f".{STATUS}"):
                    files_of_status[entry.name.removesuffix(f".{STATUS}")] = facts
                if parsed is not None and (stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)):
                    found.setdefault(parsed[0], {})[parsed[1]] = facts
    views = []
    for stem, files in found.items():
        status = read_status(spool.status(stem)) if known is None else _read(spool, stem, files_of_status.get(stem), known)
        main = _main(files, status)
        for state, facts in files.items():
            # Log and status belong to the job that runs or has ended; a newer file of the same name has none yet.
            namesake = len(files) > 1 and state is not main
            views.append(_view(stem, state, facts, None if namesake else status, behind=main if namesake else None, now=now))
    for stem in set(known or ()) - found.keys():
        (known or {}).pop(stem, None)
    return tuple(sorted(views, key=_place))


def _read(spool: Spool, stem: str, facts: os.stat_result | None, known: ReadStatuses) -> JobStatus | None:
    """Returns what a status file says, by what is known of it if it is the same file. The daemon replaces it to change it."""
    if facts is None:
        return None
    file = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    read = known.get(stem)
    if read is None or read[0] != file:
        read = known[stem] = (file, read_status(spool.status(stem)))
    return read[1]


def strays(folder: Path) -> dict[str, str]:
    """Returns the files in the spool that are never read though a person may think so, each with the reason. Raises `OSError`."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    return {name: why for name in sorted(names) if (why := why_no_job(name)) is not None}


def daemon_running(folder: Path) -> int | None:
    """Returns the pid of the daemon that serves this spool, 0 if its pid is not known, None if there is none.

    Raises `PermissionError` for users who may not look into `.state`.
    """
    return holder(Spool(folder=folder).daemon_lock)


def nobody_serves(folder: Path) -> bool:
    """Whether no daemon serves this spool; False if this user may not know."""
    try:
        return daemon_running(folder) is None
    except OSError:
        return False


def _main(files: dict[State, os.stat_result], status: JobStatus | None) -> State:
    """Returns which of several control files of a name log and status belong to, as the status says; else a guess."""
    named = [state for state in files if status is not None and status.state == state.meaning]
    if named:
        return named[0]
    return next(state for state in _LOG_OWNERS if state in files)


def _view(stem: str, state: State, facts: os.stat_result, status: JobStatus | None, *, behind: State | None, now: float) -> JobView:
    why, until = _why(state, facts, status, behind=behind, now=now)
    return JobView(
        name=stem,
        state=state,
        submitter=status.submitter if status else user_name(facts.st_uid),
        accepted=status is not None,
        delta=status.delta if status else "",
        restore_to=status.restore_to if status else "",
        priority=status.priority if status else 5,
        note=status.note if status else "",
        attempt=status.attempt if status else 0,
        since=_since(state, facts, status),
        why=why,
        until=until,
        next_try=status.next_try if status and state is State.WAITING else None,
        progress=status.progress if status and state is State.RUNNING else None,
        exit_code=status.outcome.exit_code if status and status.outcome and state.final else None,
        rotated=rotated_of(stem) is not None,
    )


def _since(state: State, facts: os.stat_result, status: JobStatus | None) -> float:
    if status is not None:
        if state is State.RUNNING and status.started_at is not None:
            return status.started_at
        if state.final and status.finished_at is not None:
            return status.finished_at
        if state.moves_on:
            return status.accepted_at
    return facts.st_ctime  # of a held job: when it was renamed


def _why(
    state: State, facts: os.stat_result, status: JobStatus | None, *, behind: State | None, now: float
) -> tuple[str, float | None]:
    if state.final:
        return (status.outcome.reason if status and status.outcome else ""), None
    if state is State.WAITING:
        return _why_waiting(facts, status, behind=behind, now=now)
    return "", None


def _why_waiting(facts: os.stat_result, status: JobStatus | None, *, behind: State | None, now: float) -> tuple[str, float | None]:
    if behind is State.RUNNING:
        return f"waits for the {behind.meaning} job of the same name", None
    scheduled = max(facts.st_mtime, status.not_before or 0.0) if status is not None else facts.st_mtime
    if scheduled > now:
        return f"scheduled, waits until {time_of_day(scheduled, now)}", scheduled
    if status is None:
        return "not accepted yet", None
    if status.next_try is not None and status.next_try > now:
        return f"waits until {time_of_day(status.next_try, now)}: {status.why_waiting}", status.next_try
    return (status.why_waiting if status.next_try is None and status.why_waiting else TURN), None


def _place(view: JobView) -> tuple[int, float, float, str]:
    priority = float(view.priority) if view.state is State.WAITING else 0.0
    return (view.state.place, priority, view.since, view.name)
