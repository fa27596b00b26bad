"""What the door decided, carried out; and the claim of a job for a worker.

The first line of the log comes before anything else, so that a person who dropped a file sees at once that it was
taken. Acceptance need not be durable: until the job runs its .job file is the truth, and a lost record only means
that it is accepted once more. From the claim on every record is durable.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace

from phd_daemon.spool.control_file import ControlFile
from phd_daemon.spool.intake import Accepted, Refused
from phd_daemon.spool.job_log import begin_log
from phd_daemon.spool.layout import Spool, State
from phd_daemon.spool.locks import take_lock
from phd_daemon.spool.reconcile import Examine
from phd_daemon.spool.record import JobRecord, write_record
from phd_daemon.spool.status_file import Outcome, Result, read_status, write_status
from phd_daemon.spool.transitions import clock, free_rotation, log_of, move_exactly, occupied, rotate, status_of
from restore_core import durable
from restore_core.naming import printable
from restore_core.restore.request import OURS, Provision, VmxChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that is ours to run: its lock is held by `lock_fd`, which the caller hands on and closes."""

    record: JobRecord
    lock_fd: int


def accept(spool: Spool, stem: str, old: JobRecord | None, how: Examine, found: Accepted) -> JobRecord:
    """The file becomes a job. Raises `OSError`."""
    seen = found.seen
    if how.rotate or not begin_log(spool.log(stem), reader=seen.uid):
        rotate(spool, stem)  # the log of somebody else's job is not for this one's submitter to read
    replaced = old is not None and not how.retry and not how.rotate
    if replaced and old is not None and _differs_in_priority_alone(old, found):
        return _prioritize(spool, old, found)
    again = old if how.retry else None
    record = JobRecord(
        stem=stem,
        state=State.WAITING,
        identity=seen.identity,
        size=seen.size,
        mtime_ns=seen.mtime_ns,
        not_before_ns=seen.mtime_ns,
        arrived_ns=seen.ctime_ns,
        accepted_at=time.time(),
        uid=seen.uid,
        submitter=seen.submitter,
        text=found.text.decode(),
        control=found.control,
        attempt=again.attempt if again else 0,
    )
    log_of(spool, record).line("\n".join(_asked(record, found.control, replaced=replaced)))
    write_status(spool.status(stem), status_of(record), durable_now=False)
    write_record(spool.record(stem), record, durable_now=False)
    return record


def _differs_in_priority_alone(old: JobRecord, found: Accepted) -> bool:
    """The same person asks for the same, only sooner or later: that is the job that waits, not another one."""
    if old.state is not State.WAITING or old.control is None or old.uid != found.seen.uid:
        return False
    here, there = old.control.priority, found.control.priority
    return here != there and replace(found.control, priority=here) == old.control


def _prioritize(spool: Spool, old: JobRecord, found: Accepted) -> JobRecord:
    """It keeps its place among its equals, its tries, and its log. Raises `OSError`."""
    seen = found.seen
    record = old.with_(
        identity=seen.identity,
        size=seen.size,
        mtime_ns=seen.mtime_ns,
        not_before_ns=seen.mtime_ns,
        text=found.text.decode(),
        control=found.control,
    )
    lines = [f"priority {found.control.priority} from now on", *_schedule(record if seen.mtime_ns != old.not_before_ns else None)]
    log_of(spool, old).line("\n".join(lines))
    status = read_status(spool.status(old.stem)) or status_of(record)
    now = status.with_(priority=found.control.priority, not_before=record.not_before_ns / 1e9)
    write_status(spool.status(old.stem), now, durable_now=False)
    write_record(spool.record(old.stem), record)
    return record


def reject(spool: Spool, stem: str, old: JobRecord | None, how: Examine, found: Refused) -> JobRecord | None:
    """The file is refused: why is in its log and, durably, in its status; then it gets its name. Raises `OSError`.

    None when another file took the name meanwhile: that one comes to the door next.
    """
    seen, now = found.seen, time.time()
    if how.rotate or not begin_log(spool.log(stem), reader=seen.uid):
        rotate(spool, stem)
    record = JobRecord(
        stem=stem,
        state=State.REJECTED,
        identity=seen.identity,
        size=seen.size,
        mtime_ns=seen.mtime_ns,
        not_before_ns=seen.mtime_ns,
        arrived_ns=seen.ctime_ns,
        accepted_at=now,
        uid=seen.uid,
        submitter=seen.submitter,
        attempt=(old.attempt if old is not None and how.retry else 0) + 1,
        finished_at=now,
    )
    name = printable(f"{stem}.{State.WAITING.value}")
    lines = [
        f"rejected: {name}, from {printable(seen.submitter)}",
        *(f"{name}: {line}" for line in found.error.message.split("\n")),
    ]
    log_of(spool, record).line("\n".join([*lines, *([found.error.remedy] if found.error.remedy else [])]), past_cap=True)
    outcome = Outcome(
        attempt=record.attempt,
        result=Result.FAILED,
        exit_code=int(found.error.exit_code),
        reason=found.error.message,
        finished_at=now,
    )
    write_status(spool.status(stem), status_of(record).with_(outcome=outcome), durable_now=True)
    final = spool.control(stem, State.REJECTED)
    if occupied(final):
        durable.move(final, spool.control(free_rotation(spool, stem), State.REJECTED))
    if not move_exactly(spool.control(stem, State.WAITING), final, seen.identity):
        return None
    write_record(spool.record(stem), record)
    return record


def claim(spool: Spool, record: JobRecord) -> Claim | None:
    """Lock, rename, record, status: from here on the job runs or has died. None when it cannot be had just now.

    Raises `OSError`; then it waits on, or the next round finds whatever was reached.
    """
    stem = record.stem
    waiting = spool.control(stem, State.WAITING)
    lock_fd = take_lock(spool.lock(stem))
    if lock_fd is None:
        return None
    try:
        found = os.lstat(waiting)
        if found.st_mtime_ns > time.time_ns() or not move_exactly(waiting, spool.control(stem, State.RUNNING), record.identity):
            os.close(lock_fd)
            return None
        running = record.with_(state=State.RUNNING, attempt=record.attempt + 1, next_try=None, why_waiting="", finished_at=None)
        write_record(spool.record(stem), running)
        write_status(spool.status(stem), status_of(running).with_(started_at=time.time()), durable_now=False)
    except BaseException:
        with contextlib.suppress(OSError):  # it still waits; where even that cannot be said, the next round says it
            move_exactly(spool.control(stem, State.RUNNING), waiting, record.identity)
        os.close(lock_fd)
        raise
    return Claim(record=running, lock_fd=lock_fd)


_OVERWRITES = {
    True: "a disk that is there is refreshed or replaced",
    OURS: "a disk that only we have written is refreshed",
}


def _asked(record: JobRecord, control: ControlFile, *, replaced: bool) -> list[str]:
    """What was asked, by whom, and when: how every log begins."""
    if replaced:
        first = [f"replaced, before it ran, by a newer {printable(record.stem)}.{State.WAITING.value}"]
    else:
        first = [f"tried again: attempt {record.attempt + 1}"] if record.attempt else []
    lines = [
        *first,
        f"accepted from {printable(record.submitter)}, asked at {clock(record.arrived_ns / 1e9)}",
        f"restore    {control.delta}",
        f"to         {printable(str(control.restore_to))}",
        *([f"full       {control.full}"] if control.full else []),
        *([f"overwrite  {_OVERWRITES[control.options.overwrite]}"] if control.options.overwrite else []),
        *(["provision  thin"] if control.options.provision is Provision.THIN else []),
        *(["vmx        put beside the disk as it is"] if control.options.vmx is VmxChoice.AS_IS else []),
        *(["readback   the finished disk is read again before it gets its name"] if control.options.readback else []),
        *([f"note       {control.note}"] if control.note else []),
    ]
    return [*lines, *_schedule(record)]


def _schedule(record: JobRecord | None) -> list[str]:
    if record is None or record.not_before_ns <= time.time_ns():
        return []
    return [f"scheduled: not before {clock(record.not_before_ns / 1e9)} (the file's time)"]
