"""Carries out what `reconcile` decides, and renames the files of jobs: no other module does.

Each function is a few calls in an order that a crash may cut anywhere; the table in the package's docstring says what is left then.
`durable.move` never overwrites: `FileNotFoundError` and `FileExistsError` mean that somebody else has renamed the file first, and
the caller looks again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from phd_daemon.spool import reconcile
from phd_daemon.spool.control_file import MAX_BYTES
from phd_daemon.spool.job_log import JobLog, timestamp
from phd_daemon.spool.layout import Spool, State, how_to_retry, parse_name
from phd_daemon.spool.locks import take_lock
from phd_daemon.spool.own_files import is_obstacle, obstacle_at, open_unlinked, take_over, write_own
from phd_daemon.spool.record import JobRecord, write_record
from phd_daemon.spool.scan import identity_at
from phd_daemon.spool.status_file import Outcome, Result, read_status, write_status
from restore_core import durable
from restore_core.disk.identity import FileIdentity
from restore_core.naming import printable

_COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that this daemon may run. The open file `lock_fd` holds its lock; the caller gives it to the worker and closes it."""

    record: JobRecord
    lock_fd: int


def apply(spool: Spool, stem: str, record: JobRecord | None, action: reconcile.Change) -> JobRecord | None:
    """Carries out one action; returns the job's record as it is now, None if it has none any more. Raises `OSError`."""
    if isinstance(action, reconcile.Requeue):
        return _requeue(spool, stem, record)
    if record is None:
        raise AssertionError(f"{action} without a record")
    match action:
        case reconcile.End():
            return end(spool, record, action)
        case reconcile.WaitAgain():
            return wait_again(spool, record, action)
        case reconcile.SetWaitingState():
            return _set_waiting_state(spool, record, action.state)
        case reconcile.NoteChange():
            return _note_change(spool, record, action.state)
        case reconcile.Reidentify():
            return _saved(spool, _as_on_disk(spool, record, action.state))
        case _:
            _remove_record(spool, record, action)
            return None


def _remove_record(
    spool: Spool, record: JobRecord, action: reconcile.RenameOlder | reconcile.DropRecord | reconcile.Withdraw | reconcile.Forget
) -> None:
    match action:
        case reconcile.RenameOlder():
            rename_older(spool, action.source, action.source, record)
        case reconcile.DropRecord():
            durable.remove(spool.record(record.stem), durable=False)
        case reconcile.Withdraw() | reconcile.Forget():
            forget(spool, record.stem)
        case _:
            assert_never(action)


def claim(spool: Spool, record: JobRecord) -> Claim | None:
    """Takes a waiting job for a worker: lock, rename to .running, record, status. Returns None if it cannot be had now.

    Raises `OSError`; then the job still waits, or the next round goes on from the step that was reached.
    """
    stem = record.stem
    waiting, running = spool.control(stem, State.WAITING), spool.control(stem, State.RUNNING)
    lock_fd = take_lock(spool.lock(stem))
    if lock_fd is None:
        return None
    try:
        if os.lstat(waiting).st_mtime_ns > time.time_ns() or not _move_if_same(waiting, running, record.identity):
            os.close(lock_fd)
            return None
        started = record.with_(state=State.RUNNING, attempt=record.attempt + 1, next_try=None, why_waiting="", finished_at=None)
        write_record(spool.record(stem), started)
        write_status(spool.status(stem), started.fresh_status().with_(started_at=time.time()), durable_now=False)
    except BaseException:
        with contextlib.suppress(OSError):  # if even this fails, the next round renames it back
            _move_if_same(running, waiting, record.identity)
        os.close(lock_fd)
        raise
    return Claim(record=started, lock_fd=lock_fd)


def end(spool: Spool, record: JobRecord, action: reconcile.End) -> JobRecord:
    """Ends a job: makes the outcome durable, then renames the control file, then writes the record."""
    stem, log = record.stem, log_of(spool, record)
    outcome = action.outcome or _own_outcome(record, action)
    if action.outcome is None:
        log.line(f"{action.state.meaning}: {action.reason}", past_cap=True)
    if action.state is State.FAILED:
        log.line(how_to_retry(stem, action.state), past_cap=True)
    if action.late and action.state is State.DONE:
        log.line("the cancel came too late: the restore had finished", past_cap=True)
    status = read_status(spool.status(stem)) or record.fresh_status()
    changes = {"finished_at": outcome.finished_at, "next_try": None, "why_waiting": ""}
    status = status.with_(state=action.state.meaning, outcome=outcome, pid=None, **changes)
    write_status(spool.status(stem), status, durable_now=True)
    if action.source is not action.state:
        final = _free_name(spool, stem, action.state)
        if action.source is None:
            write_own(final, record.text.encode(), durable_now=True, reader=record.uid)
        else:
            _move(spool.control(stem, action.source), final)
    return _saved(spool, _as_on_disk(spool, record.with_(state=action.state, **changes), action.state))


def reject(spool: Spool, stem: str, identity: FileIdentity) -> bool:
    """Renames a waiting file to .rejected. Returns False, and changes nothing, if another file has its name now."""
    return _move_if_same(spool.control(stem, State.WAITING), _free_name(spool, stem, State.REJECTED), identity)


def wait_again(spool: Spool, record: JobRecord, action: reconcile.WaitAgain) -> JobRecord | None:
    """Renames the file back to .job, in its old place in the queue; if a newer .job has that name, to crm.~1.job."""
    stem = record.stem
    waits = record.with_(
        state=State.WAITING, tries=action.tries, deaths=action.deaths, next_try=action.next_try, why_waiting=action.why
    )
    log_of(spool, record).line(_why_again(action, waits, died=action.deaths > record.deaths), past_cap=True)
    if action.source is not State.WAITING:
        if _occupied(spool.control(stem, State.WAITING)):
            rename_older(spool, action.source, State.WAITING, waits)
            return None
        _move(spool.control(stem, action.source), spool.control(stem, State.WAITING))
    write_status(spool.status(stem), waits.fresh_status(), durable_now=False)
    return _saved(spool, waits)


def rename_older(spool: Spool, source: State, to_state: State, record: JobRecord) -> None:
    """Gives the older of two control files of one name a name of its own, with log, status and record; it waits on."""
    stem = record.stem
    to = free_rotation(spool, stem)
    log_of(spool, record).line(f"a newer {printable(stem)}.job has come: this one goes on as {printable(to)}", past_cap=True)
    durable.move(spool.control(stem, source), spool.control(to, to_state))
    _move_side_files(spool, stem, to)
    renamed = record.with_(stem=to)
    write_record(spool.record(to), renamed)
    write_status(spool.status(to), renamed.fresh_status(), durable_now=False)
    durable.remove(spool.record(stem))


def rotate(spool: Spool, stem: str) -> None:
    """Renames the finished files of a stem, its log and its status to the next free crm.~N."""
    to = free_rotation(spool, stem)
    for state in State:
        if state.final and os.path.lexists(spool.control(stem, state)):
            durable.move(spool.control(stem, state), spool.control(to, state))
    _move_side_files(spool, stem, to)


def free_rotation(spool: Spool, stem: str) -> str:
    """Returns the first crm.~N that has no files; a random N if somebody has used up a thousand."""
    number = 1
    while any(os.path.lexists(path) for path in _all_paths(spool, f"{stem}.~{number}")):
        number = number + 1 if number < _COUNTED else _COUNTED + secrets.randbelow(_COUNTED**3)
    return f"{stem}.~{number}"


def forget(spool: Spool, stem: str) -> None:
    """Deletes everything of a job but its control file. It need not be durable: after a crash the next round does it again."""
    for path in (spool.log(stem), spool.status(stem), spool.record(stem), spool.lock(stem)):
        durable.remove(path, durable=False)


def rename(source: Path, to: Path) -> None:
    """Renames a control file for a person, never over an existing name, as durably as this user may. Raises `OSError`."""
    try:
        durable.move(source, to)
    except PermissionError:
        # A drop box (mode 1730) may be written but not read, so its folder cannot be opened to be synced.
        if os.path.lexists(source):
            raise


def replace_waiting(part: Path, path: Path, seen: os.stat_result) -> bool:
    """Exchanges a waiting control file with `part`. Returns False, and changes nothing, if it is not the file `seen` any more.

    They are exchanged so that the name always has a file. Raises `FileNotFoundError` if the job does not wait any more, `OSError`.
    """
    new = os.lstat(part)
    try:
        durable.exchange(part, path)
    except PermissionError:
        # As in `rename`: the files are exchanged, only the folder of a drop box cannot be synced.
        if os.lstat(path).st_ino != new.st_ino:
            raise
    if os.lstat(part).st_ino == seen.st_ino:
        return True
    durable.exchange(part, path)
    return False


def log_of(spool: Spool, record: JobRecord) -> JobLog:
    """Returns the log of a job, which its submitter may read."""
    return JobLog(spool.log(record.stem), reader=record.uid)


def _requeue(spool: Spool, stem: str, record: JobRecord | None) -> JobRecord | None:
    source, to = spool.control(stem, State.RUNNING), spool.control(stem, State.WAITING)
    uid = os.lstat(source).st_uid
    if _occupied(to):
        other = free_rotation(spool, stem)
        JobLog(spool.log(other), reader=uid).line(f"found as {printable(source.name)} without a worker: waits again")
        durable.move(source, spool.control(other, State.WAITING))
    else:
        JobLog(spool.log(stem), reader=uid).line("found as .running without a worker: waits again")
        _move(source, to)
    return record


def _set_waiting_state(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    held = f"{state.meaning}: rename it back to .job, or 'phd release', to let it go on"
    log_of(spool, record).line("released: waits for its turn" if state.moves_on else held)
    waits = record.with_(state=state)
    write_status(spool.status(record.stem), waits.fresh_status(), durable_now=False)
    return _saved(spool, waits)


def _note_change(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    """Notes, once, that the file changed after it was accepted: its time is a new schedule, an edit changes nothing."""
    log = log_of(spool, record)
    text = _text(spool.control(record.stem, state))
    now = _as_on_disk(spool, record, state)
    if state is not State.RUNNING and not now.identity.same(record.identity):
        return record  # a new file has its name since it was looked at: the next look decides about it
    edited = text is not None and text != record.text.encode()
    if not edited or now.mtime_ns > time.time_ns():
        now = now.with_(not_before_ns=now.mtime_ns)
    if edited:
        log.line("the control file was edited after it was accepted: the edit changes nothing. Cancel the job and drop a new file.")
    elif state is State.WAITING and now.mtime_ns != record.mtime_ns and now.mtime_ns > time.time_ns():
        log.line(f"scheduled: not before {timestamp(now.mtime_ns / 1e9)} (the file's time)")
    if not edited and record.next_try is not None:
        # Whoever touches the file says when the job may run: it does not wait for its next try any longer.
        now = now.with_(next_try=None, why_waiting="")
        log.line("its next try need not wait any longer: it was asked for ('phd retry', or a touch of the file)")
    if state is State.WAITING and (now.not_before_ns, now.next_try) != (record.not_before_ns, record.next_try):
        write_status(spool.status(record.stem), now.fresh_status(), durable_now=False)
    return _saved(spool, now)


def _move(source: Path, to: Path) -> None:
    """Renames a control file, even if another user has put something under its new name a moment ago.

    Such a file is exchanged with ours, so that user cannot get in between; it has the old name then, and the next look decides
    about it. Something that can be no control file is put aside. Raises `FileExistsError` for a file of the same owner or of ours,
    `OSError`.
    """
    try:
        durable.move(source, to)
    except FileExistsError:
        there, own = os.lstat(to), os.lstat(source)
        if there.st_uid in (0, os.geteuid(), own.st_uid):
            raise
        if not is_obstacle(there):
            durable.exchange(source, to)
            return
        said, parsed = take_over(source, to), parse_name(to.name)
        if said and parsed is not None:
            JobLog(Spool(folder=to.parent).log(parsed[0])).line(said, past_cap=True)


def _move_if_same(source: Path, to: Path, identity: FileIdentity) -> bool:
    """Renames the control file with this identity. Returns False, and changes nothing, if another file has its name now."""
    _move(source, to)
    if identity_at(to).same(identity):
        return True
    durable.move(to, source)
    return False


def _free_name(spool: Spool, stem: str, state: State) -> Path:
    """Returns the path of the control file in a final state, after an older file of that name was renamed to crm.~N."""
    path = spool.control(stem, state)
    if _occupied(path):
        durable.move(path, spool.control(free_rotation(spool, stem), state))
    return path


def _occupied(path: Path) -> bool:
    """Whether a control file has the name. An obstacle of another user does not count."""
    return os.path.lexists(path) and not obstacle_at(path)


def _as_on_disk(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    path = spool.control(record.stem, state)
    found = os.lstat(path)
    return record.with_(identity=identity_at(path), size=found.st_size, mtime_ns=found.st_mtime_ns)


def _text(path: Path) -> bytes | None:
    try:
        with open_unlinked(path) as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        return None


def _own_outcome(record: JobRecord, action: reconcile.End) -> Outcome:
    result = Result.CANCELLED if action.state is State.CANCELLED else Result.FAILED
    return Outcome(
        attempt=record.attempt, result=result, exit_code=int(action.exit_code), reason=action.reason, finished_at=time.time()
    )


def _why_again(action: reconcile.WaitAgain, waits: JobRecord, *, died: bool) -> str:
    if action.next_try is None:
        return f"waits again: {action.why}" if action.why else "stopped with the daemon: waits again"
    then = (
        f"gets worker {waits.deaths + 1} of {reconcile.MAX_DEATHS}" if died else f"try {waits.tries + 1} of {reconcile.MAX_TRIES}"
    )
    return f"waits until {timestamp(action.next_try)}, then {then}: {action.why}"


def _move_side_files(spool: Spool, stem: str, to: str) -> None:
    for source, target in ((spool.log(stem), spool.log(to)), (spool.status(stem), spool.status(to))):
        if os.path.lexists(source):
            durable.move(source, target)  # whatever it is: the next job of the name needs its name


def _all_paths(spool: Spool, stem: str) -> tuple[Path, ...]:
    return (*(spool.control(stem, state) for state in State), spool.log(stem), spool.status(stem), spool.record(stem))


def _saved(spool: Spool, record: JobRecord) -> JobRecord:
    write_record(spool.record(record.stem), record)
    return record
