"""Takes in one waiting file: `examine` opens, reads and validates it, `accept` or `reject` writes log, status and record.

The file is opened without following links and without blocking. It must be a regular file with one name, the file that `lstat` saw,
of at most 64 KiB, and no process may have it open for writing. The submitter is the owner of the open file.

The first line of the log is written before anything else, so a person who drops a file sees at once that it was taken. An
acceptance need not be durable: until the job runs its .job file is what counts; if the record is lost, the file is accepted again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.spool import transitions
from phd_daemon.spool.access import groups_of, may_submit, user_name
from phd_daemon.spool.control_file import MAX_BYTES, ControlFile, check_policy, parse_control_file
from phd_daemon.spool.job_log import begin_log, timestamp
from phd_daemon.spool.layout import Spool, State, how_to_retry
from phd_daemon.spool.reconcile import Examine
from phd_daemon.spool.record import JobRecord, write_record
from phd_daemon.spool.scan import identity_of
from phd_daemon.spool.status_file import Outcome, Result, read_status, write_status
from restore_core.disk.identity import FileIdentity
from restore_core.disk.spelling import as_there_below
from restore_core.errors import BadControlFile, PhdError
from restore_core.naming import printable
from restore_core.restore.request import OURS, Provision, VmxChoice

if TYPE_CHECKING:
    from phd_daemon.config.model import Config, SubmitterLimits

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = "Correct that and drop the file again."

_OVERWRITES = {
    True: "a disk that is there is refreshed or replaced",
    OURS: "a disk that only we have written is refreshed",
}

Validate = Callable[[bytes, str], ControlFile]
"""Returns what the text asks for, given text and submitter; raises `PhdError` for what is not allowed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedFile:
    """A waiting file as it was found. `ctime_ns` decides its place in the queue."""

    identity: FileIdentity
    size: int
    mtime_ns: int
    ctime_ns: int
    uid: int
    submitter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A complete and allowed control file, with a copy of its text."""

    file: SubmittedFile
    text: bytes
    control: ControlFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A file that cannot become a job; `error` says why and what to do."""

    file: SubmittedFile
    error: PhdError


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """A file that is gone, was replaced, or is still open for writing: look again later."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRules:
    """Which files are accepted as jobs. With `open` false none is: the queue is disabled."""

    validate: Validate
    submitters: Collection[str]
    open: bool = True


def intake_rules(config: Config) -> IntakeRules:
    """Returns the rules of this configuration."""
    names = tuple(spec.name for spec in config.targets)

    def validate(text: bytes, submitter: str) -> ControlFile:
        control = parse_control_file(text)
        control = replace(control, restore_to=as_there_below(control.restore_to, config.datastores.roots))
        limits = _limits(config.queue.submitter_limits, submitter)
        check_policy(control, roots=config.datastores.roots, target_names=names, submitter=submitter, limits=limits)
        return control

    return IntakeRules(validate=validate, submitters=config.queue.submitters, open=config.queue.enabled)


def _limits(limits: Mapping[str, SubmitterLimits], submitter: str) -> SubmitterLimits | None:
    """Returns the limits of a user, or of the first of his groups that has some."""
    if submitter in limits:
        return limits[submitter]
    mine = groups_of(submitter)
    return next((limit for name, limit in limits.items() if name.startswith("@") and name[1:] in mine), None)


def examine(path: Path, *, validate: Validate, submitters: Collection[str]) -> Accepted | Rejected | NotYet:
    """Opens, checks, reads and validates one file. Raises `OSError` only for what may go away (EIO, EMFILE)."""
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return NotYet(why="gone")
    if stat.S_ISLNK(before.st_mode):
        remedy = "Put the file itself there: a copy, not a link to it."
        return Rejected(file=_not_opened(before), error=BadControlFile("this is a symbolic link", remedy=remedy))
    if not stat.S_ISREG(before.st_mode):
        return NotYet(why="this is no file")
    try:
        fd = os.open(path, _OPEN)
    except PermissionError:
        return Rejected(file=_not_opened(before), error=_unreadable())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return NotYet(why="replaced while it was opened")
        raise
    try:
        return _examine_open(fd, before, validate, submitters)
    finally:
        os.close(fd)


def _examine_open(fd: int, before: os.stat_result, validate: Validate, submitters: Collection[str]) -> Accepted | Rejected | NotYet:
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino, found.st_size) != (before.st_dev, before.st_ino, before.st_size):
        return NotYet(why="replaced while it was opened")
    if has_writer(fd):
        return NotYet(why="still open for writing")
    file = _submitted(found, identity_of(fd))
    try:
        _refuse_bad_file(found)
        _refuse_other_users(file, submitters)
        text = os.pread(fd, MAX_BYTES + 1, 0)
        if len(text) != found.st_size:
            return NotYet(why="still being written")
        return Accepted(file=file, text=text, control=validate(text, file.submitter))
    except PhdError as error:
        return Rejected(file=file, error=error)


def has_writer(fd: int) -> bool:
    """Whether a process has the file open for writing: the kernel refuses a read lease then. False if we may not ask.

    The lease is given back at once. If a writer comes in between, the kernel sends SIGIO, which the daemon ignores.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def accept(spool: Spool, stem: str, old: JobRecord | None, how: Examine, found: Accepted) -> JobRecord:
    """Makes the file a waiting job. Raises `OSError`."""
    file = found.file
    _begin_log(spool, stem, how, file)
    replaced = old is not None and not how.retry and not how.rotate
    if replaced and old is not None and _differs_in_priority_alone(old, found):
        return _set_priority(spool, old, found)
    attempt = old.attempt if old is not None and how.retry else 0
    record = _new_record(stem, State.WAITING, file).with_(text=found.text.decode(), control=found.control, attempt=attempt)
    transitions.log_of(spool, record).line("\n".join(_first_lines(record, found.control, replaced=replaced)))
    write_status(spool.status(stem), record.fresh_status(), durable_now=False)
    write_record(spool.record(stem), record, durable_now=False)
    return record


def reject(spool: Spool, stem: str, old: JobRecord | None, how: Examine, found: Rejected) -> JobRecord | None:
    """Writes the reason to the log and, durably, to the status, then renames the file to .rejected. Raises `OSError`.

    Returns None if another file has the name now: that one is examined next.
    """
    file, error = found.file, found.error
    _begin_log(spool, stem, how, file)
    attempt = (old.attempt if old is not None and how.retry else 0) + 1
    record = _new_record(stem, State.REJECTED, file)
    record = record.with_(attempt=attempt, finished_at=record.accepted_at)
    name = printable(f"{stem}.{State.WAITING.value}")
    lines = [f"rejected: {name}, from {printable(file.submitter)}", *(f"{name}: {line}" for line in error.message.split("\n"))]
    lines += [error.remedy] if error.remedy else []
    transitions.log_of(spool, record).line("\n".join([*lines, how_to_retry(stem, State.REJECTED)]), past_cap=True)
    outcome = Outcome(
        attempt=attempt,
        result=Result.FAILED,
        exit_code=int(error.exit_code),
        reason=error.message,
        finished_at=record.accepted_at,
    )
    write_status(spool.status(stem), record.fresh_status().with_(outcome=outcome), durable_now=True)
    if not transitions.reject(spool, stem, file.identity):
        return None
    write_record(spool.record(stem), record)
    return record


def _begin_log(spool: Spool, stem: str, how: Examine, file: SubmittedFile) -> None:
    """Renames older files first if they are in the way: another person's log must not be readable for this submitter."""
    if how.rotate or not begin_log(spool.log(stem), reader=file.uid):
        transitions.rotate(spool, stem)


def _new_record(stem: str, state: State, file: SubmittedFile) -> JobRecord:
    return JobRecord(
        stem=stem,
        state=state,
        identity=file.identity,
        size=file.size,
        mtime_ns=file.mtime_ns,
        not_before_ns=file.mtime_ns,
        arrived_ns=file.ctime_ns,
        accepted_at=time.time(),
        uid=file.uid,
        submitter=file.submitter,
    )


def _differs_in_priority_alone(old: JobRecord, found: Accepted) -> bool:
    """Whether the same person asks for the same with another priority: that is the waiting job, not a new one."""
    if old.state is not State.WAITING or old.control is None or old.uid != found.file.uid:
        return False
    here, there = old.control.priority, found.control.priority
    return here != there and replace(found.control, priority=here) == old.control


def _set_priority(spool: Spool, old: JobRecord, found: Accepted) -> JobRecord:
    """Changes the priority. The job keeps its place among jobs of the same priority, its tries, and its log. Raises `OSError`."""
    file, priority = found.file, found.control.priority
    record = old.with_(
        identity=file.identity,
        size=file.size,
        mtime_ns=file.mtime_ns,
        not_before_ns=file.mtime_ns,
        text=found.text.decode(),
        control=found.control,
    )
    lines = [f"priority {priority} from now on", *(_schedule(record) if file.mtime_ns != old.not_before_ns else [])]
    transitions.log_of(spool, old).line("\n".join(lines))
    status = read_status(spool.status(old.stem)) or record.fresh_status()
    status = status.with_(priority=priority, not_before=record.not_before_ns / 1e9)
    write_status(spool.status(old.stem), status, durable_now=False)
    write_record(spool.record(old.stem), record)
    return record


def _first_lines(record: JobRecord, control: ControlFile, *, replaced: bool) -> list[str]:
    """Returns the first lines of a log: what was asked, by whom, and when."""
    options = control.options
    if replaced:
        first = [f"replaced, before it ran, by a newer {printable(record.stem)}.{State.WAITING.value}"]
    else:
        first = [f"tried again: attempt {record.attempt + 1}"] if record.attempt else []
    return [
        *first,
        f"accepted from {printable(record.submitter)}, asked at {timestamp(record.arrived_ns / 1e9)}",
        f"restore    {control.delta}",
        f"to         {printable(str(control.restore_to))}",
        *([f"full       {control.full}"] if control.full else []),
        *([f"overwrite  {_OVERWRITES[options.overwrite]}"] if options.overwrite else []),
        *(["provision  thin"] if options.provision is Provision.THIN else []),
        *(["vmx        put beside the disk as it is"] if options.vmx is VmxChoice.AS_IS else []),
        *(["readback   the finished disk is read again before it gets its name"] if options.readback else []),
        *([f"note       {control.note}"] if control.note else []),
        *_schedule(record),
    ]


def _schedule(record: JobRecord) -> list[str]:
    if record.not_before_ns <= time.time_ns():
        return []
    return [f"scheduled: not before {timestamp(record.not_before_ns / 1e9)} (the file's time)"]


def _refuse_bad_file(found: os.stat_result) -> None:
    if found.st_nlink > 1:
        # A hard link to another user's file would make that user the submitter.
        raise BadControlFile(f"the file has {found.st_nlink} names (hard links)", remedy="Put a copy there, not a link.")
    if found.st_size > MAX_BYTES:
        raise BadControlFile(f"{found.st_size} bytes: larger than {MAX_BYTES}, that is not a control file", remedy=_AGAIN)
    if found.st_size == 0:
        raise BadControlFile("the file is empty, and has been for a minute", remedy="Write the file, or use 'phd submit'.")


def _refuse_other_users(file: SubmittedFile, submitters: Collection[str]) -> None:
    if not may_submit(file.uid, submitters):
        raise BadControlFile(
            f"the file belongs to {file.submitter}, who may not submit jobs here",
            remedy="Add the user, or @group, to queue.submitters in phd.toml.",
        )


def _unreadable() -> PhdError:
    return BadControlFile("the daemon may not read this file", remedy="Make it readable (chmod 0644) and rename it back to .job.")


def _submitted(found: os.stat_result, identity: FileIdentity) -> SubmittedFile:
    return SubmittedFile(
        identity=identity,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        uid=found.st_uid,
        submitter=user_name(found.st_uid),
    )


def _not_opened(found: os.stat_result) -> SubmittedFile:
    return _submitted(found, FileIdentity(inode=found.st_ino, generation=0))
