"""What a person may ask for a job, for the command line and the console: nothing he could not do with an editor and `mv`.

    drop      puts a new control file into the spool
    hold      .job -> .held              cancel    .job, .held, .running -> .cancelled
    release   .held -> .job              retry     .done, .failed, .cancelled, .rejected -> .job
    clean     deletes finished jobs with their logs
    priority  exchanges .job for a file that asks for the same with another priority

The daemon sees it and does the rest; if it is not running, when it starts. The state table in `layout` says what may be asked when.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.spool.access import copy_readers, let_read, named_readers
from phd_daemon.spool.control_file import MAX_BYTES, ControlFile, parse_control_file, render_control_file
from phd_daemon.spool.layout import Act, Spool, State, allowing, is_stem, parse_name
from phd_daemon.spool.own_files import open_unlinked, temporary_name
from phd_daemon.spool.purge import ended_at, finished, purge, remove_job, size_of
from phd_daemon.spool.record import JobRecord, read_record
from phd_daemon.spool.scan import identity_of
from phd_daemon.spool.status_file import read_status
from phd_daemon.spool.transitions import free_rotation, rename, replace_waiting
from restore_core import durable
from restore_core.errors import TryAgainLater, UsageError
from restore_core.naming import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A finished job as `clean` finds it: its states, none if only its log is left, and the bytes of its files."""

    name: str
    states: tuple[State, ...]
    size: int


def drop(
    spool: Spool, text: bytes, *, names: Iterable[str], state: State = State.WAITING, not_before: float | None = None
) -> str | None:
    """Puts a control file into the spool, complete and durable, under the first name that is free.

    Returns that name, None if all are taken. `not_before` is the time the job waits for, in seconds since the epoch. In
    `State.HELD` it waits for a person to release it. Raises `OSError`.
    """
    part = temporary_name(spool.folder)

    def prepare(fd: int) -> None:
        _let_the_daemon_read(fd, spool.folder)
        durable.write_all(fd, text)
        if not_before is not None:
            os.utime(fd, (not_before, not_before))

    try:
        _write(part, prepare)
        for name in names:
            try:
                rename(part, spool.control(name, state))
                return name
            except FileExistsError:
                continue
        return None
    finally:
        durable.remove(part, durable=False)


def hold(folder: Path, job: str) -> None:
    """Parks a waiting job. Raises `UsageError` if it is not waiting, `OSError`."""
    _rename(folder, job, allowing(Act.HOLD), State.HELD, verb="held")


def release(folder: Path, job: str) -> None:
    """Lets a held job wait for its turn again. Raises `UsageError` if it is not held, `OSError`."""
    _rename(folder, job, allowing(Act.RELEASE), State.WAITING, verb="released")


def cancel(folder: Path, job: str) -> None:
    """Cancels a job that waits or runs. Raises `UsageError` if it does neither, `OSError`."""
    _rename(folder, job, allowing(Act.CANCEL), State.CANCELLED, verb="cancelled")


def retry(folder: Path, job: str) -> None:
    """Lets a finished or rejected job wait again; a job that waits for its next try waits for it no longer.

    Raises `UsageError` if it is neither, `OSError`.
    """
    if is_stem(job) and _waits_for_next_try(Spool(folder=folder), job):
        _touch(Spool(folder=folder).control(job, State.WAITING))
        return
    _rename(folder, job, allowing(Act.RETRY), State.WAITING, verb="tried again")


def set_priority(folder: Path, job: str, priority: int) -> int:
    """Gives a waiting job this priority, 0 (first) to 9; returns the one it had.

    An edit of an accepted file changes nothing, and a file moved over it is a new request. The daemon recognises a new request from
    the same person that differs in its priority alone: the job keeps its place, its tries and its log.

    Raises `UsageError` if it does not wait or belongs to another user, `BadControlFile` if its file is invalid, `TryAgainLater` if
    somebody else changed it at the same moment, `OSError`.
    """
    spool = Spool(folder=folder)
    path = spool.control(job, State.WAITING)
    try:
        if not is_stem(job):
            raise FileNotFoundError
        with open_unlinked(path) as file:
            seen = os.fstat(file.fileno())
            text, not_before_ns = file.read(MAX_BYTES + 1), seen.st_mtime_ns
            record = read_record(spool.record(job))
            if isinstance(record, JobRecord) and record.control is not None and record.identity.same(identity_of(file.fileno())):
                # It is accepted: a later edit, and the time of that edit, change nothing here, either.
                if text != record.text.encode() and not_before_ns <= time.time_ns():
                    not_before_ns = record.not_before_ns
                text = record.text.encode()
        control = parse_control_file(text)
        if control.priority != priority:
            _replace(path, _with_priority(text, control, priority), seen, not_before_ns)
    except FileNotFoundError:
        raise UsageError(
            f"{printable(job)} cannot be given another priority: {_described(folder, job)}",
            remedy=_must_be(folder, job, allowing(Act.PRIORITY)),
        ) from None
    return control.priority


def clean(folder: Path, jobs: Collection[str] = (), *, older_than: float | None = None, now: float = 0.0) -> list[str]:
    """Deletes finished jobs with their logs: those named, or all, or all that ended `older_than` seconds before `now`.

    Returns their names. Raises `UsageError` for a named one that is not finished, `OSError`.
    """
    spool = Spool(folder=folder)
    if older_than is not None:
        return purge(spool, older_than=older_than, now=now, busy=())
    gone = _checked_finished(spool, jobs)
    for job in gone:
        remove_job(spool, job)
    return gone


def to_clean(folder: Path, jobs: Collection[str] = (), *, older_than: float | None = None, now: float = 0.0) -> list[EndedJob]:
    """Returns what `clean` would delete, and deletes nothing. Raises what it raises."""
    spool = Spool(folder=folder)
    names = _checked_finished(spool, jobs)
    if older_than is not None:
        names = [name for name in names if now - ended_at(spool, name) > older_than]
    return [EndedJob(name=name, states=states(folder, name), size=size_of(spool, name)) for name in names]


def _checked_finished(spool: Spool, jobs: Collection[str]) -> list[str]:
    done = finished(spool)
    for job in jobs:
        if job not in done:
            raise UsageError(
                f"{printable(job)} cannot be cleaned up: {_described(spool.folder, job)}",
                remedy="Only finished jobs can be; 'phd queue' lists all jobs.",
            )
    return list(jobs) or done


def states(folder: Path, job: str) -> tuple[State, ...]:
    """Returns the states in which a control file of this name exists now; usually one."""
    spool = Spool(folder=folder)
    return tuple(state for state in State if os.path.lexists(spool.control(job, state))) if is_stem(job) else ()


def _waits_for_next_try(spool: Spool, job: str) -> bool:
    status = read_status(spool.status(job))
    waits = status is not None and status.next_try is not None and status.next_try > time.time()
    return waits and states(spool.folder, job) == (State.WAITING,)


def _touch(path: Path) -> None:
    """Opens the file for writing, as touch(1) does: the end of that wakes the daemon, a new time alone does not."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


def _rename(folder: Path, job: str, sources: Collection[State], to: State, *, verb: str) -> None:
    spool = Spool(folder=folder)
    for source in sources if is_stem(job) else ():
        try:
            rename(spool.control(job, source), spool.control(job, to))
            return
        except FileNotFoundError:
            continue
        except FileExistsError:
            if source is State.RUNNING:  # an old .cancelled has the name: to delete the .running file says the same
                durable.remove(spool.control(job, source))
                return
            if to is State.CANCELLED and _rotated(spool, job, to):
                rename(spool.control(job, source), spool.control(job, to))
                return
            there = f"{printable(job)}.{to.value}"
            raise UsageError(
                f"{printable(job)} cannot be {verb}: another job of that name is {to.meaning} ({there} exists already)",
                remedy=_how_to_free_the_name(spool, job, source, to),
            ) from None
    raise UsageError(f"{printable(job)} cannot be {verb}: {_described(folder, job)}", remedy=_must_be(folder, job, sources))


def _rotated(spool: Spool, job: str, state: State) -> bool:
    """Renames an older file of that name to the next free crm.~N, as the daemon does; False if it is another user's."""
    try:
        rename(spool.control(job, state), spool.control(free_rotation(spool, job), state))
    except PermissionError:
        return False
    return True


def _how_to_free_the_name(spool: Spool, job: str, source: State, to: State) -> str:
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


def _described(folder: Path, job: str) -> str:
    """Returns the states of a job in words, as the end of a sentence that says why something cannot be done to it."""
    found = states(folder, job)
    return "it is " + " and ".join(state.meaning for state in found) if found else f"there is no such job{meant_job(folder, job)}"


def meant_job(folder: Path, job: str) -> str:
    """Returns ` (did you mean 'crm'?)` for the job whose name is most like this one; empty if none is."""
    try:
        return did_you_mean(job, {parsed[0] for name in os.listdir(folder) if (parsed := parse_name(name)) is not None})
    except OSError:
        return ""


def _must_be(folder: Path, job: str, sources: Iterable[State]) -> str:
    if not states(folder, job):
        return "'phd queue' lists all jobs."
    return f"It must be {' or '.join(state.meaning for state in sources)}; see 'phd queue'."


def _with_priority(text: bytes, control: ControlFile, priority: int) -> bytes:
    """Returns the same text, comments included, with another priority."""
    import tomlkit

    wanted = replace(control, priority=priority)
    document = tomlkit.parse(text.decode("utf-8-sig"))
    document["priority"] = priority
    new = tomlkit.dumps(document).encode()
    return new if parse_control_file(new) == wanted else render_control_file(wanted).encode()


def _replace(path: Path, text: bytes, seen: os.stat_result, not_before_ns: int) -> None:
    part = temporary_name(path.parent)

    def prepare(fd: int) -> None:
        _copy_owner_and_readers(fd, seen, path)
        durable.write_all(fd, text)
        os.utime(fd, ns=(not_before_ns, not_before_ns))

    try:
        _write(part, prepare)
        if not replace_waiting(part, path, seen):
            raise TryAgainLater(f"{printable(path.name)} was changed at the same moment: nothing was done", remedy="Try again.")
    finally:
        durable.remove(part, durable=False)


def _write(part: Path, prepare: Callable[[int], None]) -> None:
    """Creates a file, lets `prepare` fill it, and makes it durable."""
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        prepare(fd)
        durable.sync_file(fd)
    finally:
        os.close(fd)


def _let_the_daemon_read(fd: int, folder: Path) -> None:
    """Lets the owner of the spool read the file: the daemon may be another user, without the right to read everything."""
    owner = os.stat(folder).st_uid
    let_read(fd, folder, uid=owner)
    if owner != os.geteuid() and owner not in named_readers(fd):
        os.fchmod(fd, 0o644)  # a file system without access lists


def _copy_owner_and_readers(fd: int, seen: os.stat_result, path: Path) -> None:
    try:
        durable.copy_owner_and_mode(fd, seen)
        with open_unlinked(path) as old:
            copy_readers(old.fileno(), fd)
    except PermissionError:
        # With our user as its owner, the file would be another person's request, with that person's rights.
        raise UsageError(f"{printable(path.name)} belongs to user {seen.st_uid}", remedy="That user or root may do it.") from None
