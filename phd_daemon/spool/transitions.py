"""The actions on one stem, each a few calls in an order that a crash may cut anywhere (see the package's table).

Every function takes the record as it is and gives the record as it is now, None when there is none any more. Names
change only by `durable.move`, which never overwrites; `FileNotFoundError` and `FileExistsError` mean that somebody was
quicker, and the caller looks again.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import assert_never

from phd_daemon.spool import reconcile
from phd_daemon.spool.control_file import MAX_BYTES
from phd_daemon.spool.in_the_way import is_strange, strange_at, take_over
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import FINAL, Spool, State, parse_name
from phd_daemon.spool.own_files import write_own
from phd_daemon.spool.record import JobRecord, write_record
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status, write_status
from phd_daemon.spool.which_file import file_at
from restore_core import durable
from restore_core.disk.identity import Identity
from restore_core.naming import printable

_COUNTED = 1000
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
        case _:
            _let_go(spool, record, action)
            return None


def _let_go(
    spool: Spool, record: JobRecord, action: reconcile.StepAside | reconcile.Disown | reconcile.Withdraw | reconcile.Forget
) -> None:
    """What leaves no record under this name."""
    match action:
        case reconcile.StepAside():
            step_aside(spool, action.source, action.source, record)
        case reconcile.Disown():
            durable.remove(spool.record(record.stem), durable=False)
        case reconcile.Withdraw() | reconcile.Forget():
            forget(spool, record.stem)
        case _:
            assert_never(action)


def status_of(record: JobRecord) -> JobStatus:
    """A fresh status of an accepted job, with nothing of an earlier attempt in it."""
    control = record.control
    return JobStatus(
        job=record.stem,
        state=record.state.meaning,
        submitter=record.submitter,
        uid=record.uid,
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
    stem, log = record.stem, log_of(spool, record)
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
        if occupied(final):
            durable.move(final, spool.control(free_rotation(spool, stem), action.state))
        if action.source is None:
            write_own(final, record.text.encode(), durable_now=True, reader=record.uid)
        else:
            take(spool.control(stem, action.source), final)
    ended = record.with_(state=action.state, next_try=None, why_waiting="", finished_at=outcome.finished_at)
    return _saved(spool, _as_it_lies(spool, ended, action.state))


def again(spool: Spool, record: JobRecord, action: reconcile.Again) -> JobRecord | None:
    """Back to .job with its place in the queue; past a newer file of the same name it steps aside as crm.~1."""
    stem = record.stem
    waits = record.with_(
        state=State.WAITING, tries=action.tries, deaths=action.deaths, next_try=action.next_try, why_waiting=action.why
    )
    log_of(spool, record).line(_why_again(action, waits, died=action.deaths > record.deaths), past_cap=True)
    if action.source is not State.WAITING:
        if occupied(spool.control(stem, State.WAITING)):
            step_aside(spool, action.source, State.WAITING, waits)
            return None
        take(spool.control(stem, action.source), spool.control(stem, State.WAITING))
    write_status(spool.status(stem), status_of(waits), durable_now=False)
    return _saved(spool, waits)


def step_aside(spool: Spool, source: State, to_state: State, record: JobRecord) -> None:
    """Give the older of two control files of one name a name of its own, with log, status and record; it waits on."""
    stem = record.stem
    to = free_rotation(spool, stem)
    log_of(spool, record).line(f"a newer {printable(stem)}.job has come: this one goes on as {printable(to)}", past_cap=True)
    durable.move(spool.control(stem, source), spool.control(to, to_state))
    _move_side_files(spool, stem, to)
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
    """A crm.~N under which nothing lies: the first one, unless somebody has used up a thousand."""
    number = 1
    while any(os.path.lexists(path) for path in _all_paths(spool, f"{stem}.~{number}")):
        number = number + 1 if number < _COUNTED else _COUNTED + secrets.randbelow(_COUNTED**3)
    return f"{stem}.~{number}"


def forget(spool: Spool, stem: str) -> None:
    """Remove everything of a job but its control file. Need not be durable: it is asked for again after a crash."""
    for path in (spool.log(stem), spool.status(stem), spool.record(stem), spool.lock(stem)):
        durable.remove(path, durable=False)


def move_exactly(source: Path, to: Path, identity: Identity) -> bool:
    """Rename one certain file. False, and nothing changed, if another one has taken its name in the meantime."""
    take(source, to)
    if file_at(to).same(identity):
        return True
    durable.move(to, source)
    return False


def take(source: Path, to: Path) -> None:
    """Rename a control file. What a stranger has put under that name a moment ago is exchanged with it: nobody can be quicker.

    A file of theirs is then under the old name: the next look says what comes of it. What can be no control file is put aside.
    Raises `FileExistsError` for a file of the same owner or of ours, `OSError`.
    """
    try:
        durable.move(source, to)
    except FileExistsError:
        there, own = os.lstat(to), os.lstat(source)
        if there.st_uid in (0, os.geteuid(), own.st_uid):
            raise
        if not is_strange(there):
            durable.exchange(source, to)
            return
        said, parsed = take_over(source, to), parse_name(to.name)
        if said and parsed is not None:
            JobLog(Spool(folder=to.parent).log(parsed[0])).line(said, past_cap=True)


def occupied(path: Path) -> bool:
    """A control file has the name: nothing there, or what a stranger put in the way, is no obstacle."""
    return os.path.lexists(path) and not strange_at(path)


def log_of(spool: Spool, record: JobRecord) -> JobLog:
    """The log of a job, for its submitter to read."""
    return JobLog(spool.log(record.stem), reader=record.uid)


def clock(seconds: float) -> str:
    """A time as the log writes it: local."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _requeue(spool: Spool, stem: str, record: JobRecord | None) -> JobRecord | None:
    source, to = spool.control(stem, State.RUNNING), spool.control(stem, State.WAITING)
    uid = os.lstat(source).st_uid
    if occupied(to):
        other = free_rotation(spool, stem)
        JobLog(spool.log(other), reader=uid).line(f"found as {printable(source.name)} without a worker: waits again")
        durable.move(source, spool.control(other, State.WAITING))
    else:
        JobLog(spool.log(stem), reader=uid).line("found as .running without a worker: waits again")
        take(source, to)
    return record


def _regard(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    held = "held: rename it back to .job, or 'phd release', to let it go on"
    log_of(spool, record).line(held if state is State.HELD else "released: waits for its turn")
    waits = record.with_(state=state)
    write_status(spool.status(record.stem), status_of(waits), durable_now=False)
    return _saved(spool, waits)


def _compare(spool: Spool, record: JobRecord, state: State) -> JobRecord:
    """The file changed after it was accepted: note a new schedule or an edit, once, and remember how it looks now."""
    log = log_of(spool, record)
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
    return record.with_(identity=file_at(path), size=found.st_size, mtime_ns=found.st_mtime_ns)


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
            durable.move(source, target)  # whatever it is: under its old name it would be in the way


def _all_paths(spool: Spool, stem: str) -> tuple[Path, ...]:
    return (*(spool.control(stem, state) for state in State), spool.log(stem), spool.status(stem), spool.record(stem))


def _saved(spool: Spool, record: JobRecord) -> JobRecord:
    write_record(spool.record(record.stem), record)
    return record
