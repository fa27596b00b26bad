"""Another priority for a waiting job: a control file that asks the same but for it takes the place of the old one, at once.

An edit of an accepted file changes nothing, and a file moved over it is a new request: so stands the contract. The door knows
a new request that differs in its priority alone, from the same person, and lets the job keep its place, its tries and its log.
The two files are exchanged, so the name is never empty, and a job that has just begun to run is not asked for a second time.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import replace
from pathlib import Path

from phd_daemon.spool.control_file import MAX_BYTES, ControlFile, parse_control_file, render_control_file
from phd_daemon.spool.layout import Spool, State, is_stem
from phd_daemon.spool.plain import open_plain
from phd_daemon.spool.readers import copy_readers
from phd_daemon.spool.record import JobRecord, read_record
from phd_daemon.spool.requests import described
from phd_daemon.spool.which_file import which_file
from restore_core import durable
from restore_core.errors import TryAgainLater, UsageError
from restore_core.naming import printable


def set_priority(folder: Path, job: str, priority: int) -> int:
    """Give a waiting job this priority, 0 (first) to 9; the one it had.

    Raises `UsageError` when it does not wait or is not ours to change, `BadControlFile` when its file is no good,
    `TryAgainLater` when somebody else changed it at the same moment, `OSError`.
    """
    spool = Spool(folder=folder)
    path = spool.control(job, State.WAITING)
    try:
        if not is_stem(job):
            raise FileNotFoundError
        with open_plain(path) as file:
            seen = os.fstat(file.fileno())
            text, not_before_ns = file.read(MAX_BYTES + 1), seen.st_mtime_ns
            record = read_record(spool.record(job))
            if isinstance(record, JobRecord) and record.control is not None and record.identity.same(which_file(file.fileno())):
                # Accepted: what was written into the file since then counts for nothing, here too, nor does the time of that.
                if text != record.text.encode() and not_before_ns <= time.time_ns():
                    not_before_ns = record.not_before_ns
                text = record.text.encode()
        control = parse_control_file(text)
        if control.priority != priority:
            _put(path, _with_priority(text, control, priority), seen, not_before_ns)
    except FileNotFoundError:
        raise UsageError(
            f"{printable(job)} cannot be given another priority: {described(folder, job)}",
            remedy="It must be waiting; see 'phd queue'.",
        ) from None
    return control.priority


def _with_priority(text: bytes, control: ControlFile, priority: int) -> bytes:
    """The same text with another priority, comments and all."""
    import tomlkit

    wanted = replace(control, priority=priority)
    document = tomlkit.parse(text.decode("utf-8-sig"))
    document["priority"] = priority
    new = tomlkit.dumps(document).encode()
    return new if parse_control_file(new) == wanted else render_control_file(wanted).encode()


def _put(path: Path, text: bytes, seen: os.stat_result, not_before_ns: int) -> None:
    part = path.parent / f".phd-{secrets.token_hex(8)}.tmp"  # a purge takes it away should we be killed
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            _take_after(fd, seen, path)
            durable.write_all(fd, text)
            os.utime(fd, ns=(not_before_ns, not_before_ns))
            durable.sync_file(fd)
            new = os.fstat(fd)
        finally:
            os.close(fd)
        try:
            durable.exchange(part, path)
        except PermissionError:
            # A drop box may be written but not read: the two are exchanged, its folder cannot be opened to be synced.
            if os.lstat(path).st_ino != new.st_ino:
                raise
        if os.lstat(part).st_ino != seen.st_ino:
            durable.exchange(part, path)
            raise TryAgainLater(f"{printable(path.name)} was changed at the same moment: nothing was done", remedy="Try again.")
    finally:
        durable.remove(part, durable=False)


def _take_after(fd: int, seen: os.stat_result, path: Path) -> None:
    try:
        durable.copy_owner_and_mode(fd, seen)
        with open_plain(path) as old:
            copy_readers(old.fileno(), fd)
    except PermissionError:
        # As ours it would be asked for by somebody else than it was, with what he may do.
        raise UsageError(f"{printable(path.name)} belongs to user {seen.st_uid}", remedy="That user or root may do it.") from None
