"""`JOB.log`: the job's log as plain text, for `tail -f` and `less`. Daemon and worker write it through this module.

    2026-11-22 13:18:06 accepted from root

Each entry is one `write` to a file opened with O_APPEND, so the lines of two writers never mix. The file is opened for every entry,
so a log that was deleted or rotated is created again. Times are local, as in other logs of the machine. The log is for people: a
failure to write it never fails a restore, and it is not made durable.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from phd_daemon.spool.access import let_read, named_readers
from phd_daemon.spool.own_files import is_own, take_over, temporary_name
from restore_core import durable
from restore_core.naming import printable

CAP_BYTES = 8 << 20
"""The log of a job that never stops printing ends here; the lines that end an attempt are still written (docs/faults.md, F60)."""
_MARK = "log truncated: it has reached its limit of {} MiB"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def muted(quiet: bool) -> Iterator[None]:
    """With `quiet` no log is written: a step that failed is tried again, and its lines are in the log already."""
    before = _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(before)


class JobLog:
    """The log at `path`, which user `reader` may read, too."""

    def __init__(self, path: Path, *, reader: int | None = None, cap: int = CAP_BYTES) -> None:
        self.path = path
        self._reader = reader
        self._cap = cap

    def line(self, text: str, *, past_cap: bool = False) -> bool:
        """Appends `text`, each of its lines after the time. Returns False if nothing could be written.

        A newline begins a new line; other control characters are escaped, though names in `text` have gone through
        `naming.printable` before. `past_cap` is for the few lines that end an attempt: they are written even when the log is full.
        """
        try:
            return not _quiet.get() and self._append(_stamped(text), past_cap=past_cap)
        except OSError:
            return False

    def _append(self, data: bytes, *, past_cap: bool) -> bool:
        fd = open_log(self.path, reader=self._reader)
        try:
            found = os.fstat(fd)
            if not past_cap and found.st_size + len(data) > self._cap:
                data = self._cut(data, self._cap - found.st_size)
            durable.write_all(fd, data)
        finally:
            os.close(fd)
        return bool(data)

    def _cut(self, data: bytes, room: int) -> bytes:
        """Returns what still fits, up to the cap, then the mark; nothing if the log is full, so the mark is written once."""
        if room < 0:
            return b""
        return data[:room].rstrip(b"\n") + b"\n" + _stamped(_MARK.format(self._cap >> 20))


def open_log(path: Path, *, reader: int | None = None) -> int:
    """Opens the log for appending, and creates it for `reader` if it is not there. Raises `OSError`.

    In a drop box another user may have created something under its name: a FIFO that would block us, a link or a hard link to
    another file, a file of his own in which he could read and change what we write. Such a thing is put aside.
    """
    try:
        fd = _open(path)
        return fd if fd is not None else _new(path, reader)
    except FileExistsError:  # the other writer, daemon or worker, has created it meanwhile
        fd = _open(path)
        if fd is None:
            raise
        return fd


def begin_log(path: Path, *, reader: int) -> bool:
    """Whether `reader` may go on with the log: it does not exist, or only he may read it. Raises `OSError`."""
    fd = _open(path)
    if fd is None:
        return True
    try:
        return named_readers(fd) == frozenset({reader}) - {os.fstat(fd).st_uid}
    finally:
        os.close(fd)


def _open(path: Path) -> int | None:
    """Opens the existing log; None if there is none or something else has its name."""
    try:
        if not _ours(os.lstat(path)):
            return None
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    found = os.fstat(fd)
    if _ours(found):
        return fd
    os.close(fd)
    return None


def _new(path: Path, reader: int | None) -> int:
    part = temporary_name(path.parent)
    fd = os.open(part, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        let_read(fd, path.parent, uid=reader)
        said = _named(part, path)
        if said:
            durable.write_all(fd, _stamped(said))
    except BaseException:
        os.close(fd)
        durable.remove(part, durable=False)
        raise
    return fd


def _named(part: Path, path: Path) -> str:
    """Gives a new log its name; returns a sentence about what else had it."""
    try:
        durable.move(part, path, durable=False)
    except FileExistsError:
        if _ours(os.lstat(path)):
            raise
        return take_over(part, path)
    return ""


def _ours(found: os.stat_result) -> bool:
    return is_own(found) and found.st_nlink == 1


def timestamp(seconds: float | None = None) -> str:
    """Returns a time as the log writes it: local. Without `seconds`, the time now."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _stamped(text: str) -> bytes:
    stamp = timestamp()
    return "".join(f"{stamp} {_escaped(line)}\n" for line in text.split("\n")).encode("utf-8", "backslashreplace")


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c in "%\t" else printable(c) for c in line)
