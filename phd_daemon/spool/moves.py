"""The actions on one stem, each a few calls in an order that a crash may cut anywhere (see the package's table).

Every function takes the record as it is and gives the record as it is now, None when there is none any more. Names
change only by `durable.move`, which never overwrites; `FileNotFoundError` and `FileExistsError` mean that somebody was
quicker, and the caller looks again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import assert_never

from phd_daemon.spool import reconcile
from phd_daemon.spool.control_file import MAX_BYTES
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import FINAL, Spool, State
from phd_daemon.spool.record import JobRecord, write_record
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status, write_status
from restore_core import durable
from restore_core.disk.identity import Identity, identity_of
from restore_core.naming import printable

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def apply(spool: Spool, stem: str, record: JobRecord | None, action: reconcile.Moves) -> JobRecord | None:
    """Do one action. Raises `OSError`."""
    if isinstance(action, reconcile.Requeue):
        return _requeue(spool, stem, record)
    if record is None:
        raise AssertionError(f"{action} without a record")
    match action:
        case reconcile.End():
            return end(spool, record, action)
        case reconcile.Again():
            return again(spool, record, action)
        case reconcile.Regard():
            return _regard(spool, record, action.state)
        case reconcile.Compare():
            return _compare(spool, record, action.state)
        case reconcile.Reidentify():
            return _saved(spool, _as_it_lies(spool, record, action.state))
        case reconcile.Disown():
            durable.remove(spool.record(stem), durable=False)
            return None
        case reconcile.Withdraw() | reconcile.Forget():
            forget(spool, stem)
            return None
        case _:
            assert_never(action)


def status_of(record: JobRecord) -> JobStatus:
    """A fresh status of an accepted job, with nothing of an earlier attempt in it."""
    control = record.control
    return JobStatus(
        job=record.stem,
        state=record.state.meaning,
        submitter=record.submitter,
        delta=str(control.delta) if control else "",
        restore_to=str(control.restore_to) if control else "",
        priority=control.priority if control else 5,
        note=control.note if control else "",
        accepted_at=record.accepted_at,
        attempt=record.attempt,
        tries=record.tries,
        deaths=record.deaths,
        next_try=record.next_try,
        not_before=record.not_before_ns / 1e9,
        why_waiting=record.why_waiting,
        finished_at=record.finished_at,
    )


def end(spool: Spool, record: JobRecord, action: reconcile.End) -> JobRecord:
    """Outcome durable, then the final name, then the record."""
    stem, log = record.stem, JobLog(spool.log(record.stem))
    outcome = action.outcome or _own_outcome(record, action)
    if action.outcome is None:
        log.line(f"{action.state.meaning}: {action.reason}", past_cap=True)
    if action.late and action.state is State.DONE:
        log.line("the cancel came too late: the restore had finished", past_cap=True)
    old = read_status(spool.status(stem)) or status_of(record)
    done = old.with_(
        state=action.state.meaning, outcome=outcome, finished_at=outcome.finished_at, pid=None, next_try=None, why_waiting=""
    )
    write_status(spool.status(stem), done, durable_now=True)
    if action.source is not action.state:
        final = spool.control(stem, action.state)
        if os.path.lexists(final):
            durable.move(final, spool.control(free_rotation(spool, stem), action.state))
        if action.source is None:
            durable.write_whole(final, record.text.encode(), mode=0o644, replace=False)
        else:
            durable.move(spool.control(stem, action.source), final)
    ended = record.with_(state=action.state, next_try=None, why_waiting="", finished_at=outcome.finished_at)
    return _saved(spool, _as_it_lies(spool, ended, action.state))


def again(spool: Spool, record: JobRecord, action: reconcile.Again) -> JobRecord | None:
    """Back to .job with its place in the queue; past a newer file of the same name it steps aside as crm.~1."""
    stem = record.stem
    waits = record.with_(
        state=State.WAITING, tries=action.tries, deaths=action.deaths, next_try=action.next_try, why_waiting=action.why
    )
    JobLog(spool.log(stem)).line(_why_again(action, waits, died=action.deaths > record.deaths), past_cap=True)
    if action.source is not State.WAITING:
        if os.path.lexists(spool.control(stem, State.WAITING)):
            step_aside(spool, stem, action.source, waits)
            return None
        durable.move(spool.control(stem, action.source), spool.control(stem, State.WAITING))
    write_status(spool.status(stem), status_of(waits), durable_now=False)
    return _saved(spool, waits)


def step_aside(spool: Spool, stem: str, source: State, record: JobRecord | None) -> None:
    """Give the older of two control files of one name a name of its own, with log, status and record: it still waits."""
    to = free_rotation(spool, stem)
    JobLog(spool.log(stem)).line(f"a newer {printable(stem)}.job has come: this one goes on as {printable(to)}", past_cap=True)
    durable.move(spool.control(stem, source), spool.control(to, State.WAITING))
    _move_side_files(spool, stem, to)
    if record is not None:
        write_record(spool.record(to), record.with_(stem=to))
        write_status(spool.status(to), status_of(record.with_(stem=to)), durable_now=False)
    durable.remove(spool.record(stem))


def rotate(spool: Spool, stem: str) -> None:
    """Move the finished files of a stem, its log and its status, to the next free crm.~N."""
    to = free_rotation(spool, stem)
    for state in State:
        if state in FINAL and os.path.lexists(spool.control(stem, state)):
            durable.move(spool.control(stem, state), spool.control(to, state))
    _move_side_files(spool, stem, to)


def free_rotation(spool: Spool, stem: str) -> str:
    """The first crm.~N under which nothing lies."""
    number = 1
    while any(os.path.lexists(path) for path in _all_paths(spool, f"{stem}.~{number}")):
        number += 1
    return f"{stem}.~{number}"


def forget(spool: Spool, stem: str) -> None:
    """Remove everything of a job but its control file. Need not be durable: it is asked for again after a crash."""
    for path in (spool.log(stem), spool.status(stem), spool.record(stem), spool.lock(stem)):
        durable.remove(path, durable=False)


def move_exactly(source: Path, to: Path, identity: Identity) -> bool:
    """Rename one certain file. False, and nothing changed, if another one has taken its name in the meantime."""
    durable.move(source, to)
    if os.lstat(to).st_ino == identity.inode:
        return True
    durable.move(to, source)
    return False


def clock(seconds: float) -> str:
    """A time as the log writes it: local."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _requeue(spool: Spool, stem: str, record: JobRecord | None) -> JobRecord | None:
    JobLog(spool.log(stem)).line("found as .running without a worker: waits again")
    if os.path.lexists(spool.control(stem, State.WAITING)):
        to = free_rotation(spool, stem)
        durable.move(spool.control(stem, State.RUNNING), spool.control(to, State.WAITING))
    else:
        durable.move(spool.control(stem, State.RUNNING), spool.control(stem, State.WAITING))
    return record


def _regard(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    held = "held: rename it back to .job, or 'phd release', to let it go on"
    JobLog(spool.log(record.stem)).line(held if state is State.HELD else "released: waits for its turn")
    waits = record.with_(state=state)
    write_status(spool.status(record.stem), status_of(waits), durable_now=False)
    return _saved(spool, waits)


def _compare(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    """The file changed after it was accepted: note a new schedule or an edit, once, and remember how it looks now."""
    log = JobLog(spool.log(record.stem))
    text = _text(spool.control(record.stem, state))
    now = _as_it_lies(spool, record, state)
    edited = text is not None and text != record.text.encode()
    if not edited or now.mtime_ns > time.time_ns():
        now = now.with_(not_before_ns=now.mtime_ns)
    if edited:
        log.line("the control file was edited after it was accepted: the edit changes nothing. Cancel the job and drop a new file.")
    elif state is State.WAITING and now.mtime_ns != record.mtime_ns and now.mtime_ns > time.time_ns():
        log.line(f"scheduled: not before {clock(now.mtime_ns / 1e9)} (the file's time)")
    if not edited and record.next_try is not None:
        # Whoever touches the file says when it may run: the next try is not waited for any longer.
        now = now.with_(next_try=None, why_waiting="")
        log.line("its next try need not wait any longer: it was asked for ('phd retry', or a touch of the file)")
    if state is State.WAITING and (now.not_before_ns, now.next_try) != (record.not_before_ns, record.next_try):
        write_status(spool.status(record.stem), status_of(now), durable_now=False)
    return _saved(spool, now)


def _as_it_lies(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    path = spool.control(record.stem, state)
    found = os.lstat(path)
    identity = Identity(inode=found.st_ino, generation=0)
    try:
        fd = os.open(path, _READ)
    except OSError:
        pass  # a link, or not readable for us: the inode has to do
    else:
        identity = identity_of(fd)
        os.close(fd)
    return record.with_(identity=identity, size=found.st_size, mtime_ns=found.st_mtime_ns)


def _text(path: Path) -> bytes | None:
    try:
        fd = os.open(path, _READ)
    except OSError:
        return None
    try:
        return os.pread(fd, MAX_BYTES + 1, 0)
    finally:
        os.close(fd)


def _own_outcome(record: JobRecord, action: reconcile.End) -> Outcome:
    result = Result.CANCELLED if action.state is State.CANCELLED else Result.FAILED
    return Outcome(
        attempt=record.attempt, result=result, exit_code=int(action.exit_code), reason=action.reason, finished_at=time.time()
    )


def _why_again(action: reconcile.Again, waits: JobRecord, *, died: bool) -> str:
    if action.next_try is not None and died:
        return f"waits until {clock(action.next_try)}, then gets worker {waits.deaths + 1} of {reconcile.MAX_DEATHS}: {action.why}"
    if action.next_try is not None:
        return f"waits until {clock(action.next_try)}, then try {waits.tries + 1} of {reconcile.MAX_TRIES}: {action.why}"
    return f"waits again: {action.why}" if action.why else "stopped with the daemon: waits again"


def _move_side_files(spool: Spool, stem: str, to: str) -> None:
    for source, target in ((spool.log(stem), spool.log(to)), (spool.status(stem), spool.status(to))):
        if os.path.lexists(source):
            durable.move(source, target)


def _all_paths(spool: Spool, stem: str) -> tuple[Path, ...]:
    return (*(spool.control(stem, state) for state in State), spool.log(stem), spool.status(stem), spool.record(stem))


def _saved(spool: Spool, record: JobRecord) -> JobRecord:
    write_record(spool.record(record.stem), record)
    return record
