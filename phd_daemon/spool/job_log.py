"""`JOB.log`: the job's log as plain text, for `tail -f` and `less`. The one writer for daemon and worker.

    2026-11-22 13:18:06 accepted from root

Each line is one `write` to a file opened with O_APPEND, so that lines of two writers never mix. The file is opened
anew for every line: a log that was removed or rotated is simply begun again. Times are local, as in every log an
administrator reads beside it. A log is a view: failing to write it never fails a restore, and it is not made durable.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from phd_daemon.spool.in_the_way import is_own, take_over
from phd_daemon.spool.readers import let_read, named_readers
from restore_core import durable, naming

CAP_BYTES = 8 << 20
"""A job that prints for ever stops here; what ends an attempt is still written (F60 in docs/faults.md)."""
_MARK = "log truncated: it has reached its limit of {} MiB"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def said_before(quiet: bool) -> Iterator[None]:
    """With `quiet` nothing is written to any log: what failed is tried again, and its lines stand there already."""
    before = _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(before)


class JobLog:
    """Appends lines to the log at `path`, which user `reader` may read, too."""

    def __init__(self, path: Path, *, reader: int | None = None, cap: int = CAP_BYTES) -> None:
        self.path = path
        self._reader = reader
        self._cap = cap

    def line(self, text: str, *, past_cap: bool = False) -> bool:
        """Append `text`, each of its lines with the time before it. False when nothing could be written.

        Names in `text` have gone through `naming.printable` already; control characters that slipped through are
        escaped here, newlines begin a new line. `past_cap` is for the few lines that end an attempt: they are
        written even when the log is full.
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
        """What still fits, filled up to the cap, then the mark: so that it is written once. Nothing when full already."""
        if room < 0:
            return b""
        mark = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {_MARK.format(self._cap >> 20)}\n"
        return data[:room].rstrip(b"\n") + b"\n" + mark.encode()


def open_log(path: Path, *, reader: int | None = None) -> int:
    """The log, open for appending, made for `reader` if it is not there. Raises `OSError`.

    In a drop box anybody may have put anything under its name: a FIFO to stop us, a link or a hard link to have us write into
    another file, a file of their own to read and change what we say of somebody else's job. That is put aside, not used.
    """
    try:
        fd = _open(path)
        return fd if fd is not None else _new(path, reader)
    except FileExistsError:  # the other writer, daemon or worker, was quicker
        fd = _open(path)
        if fd is None:
            raise
        return fd


def begin_log(path: Path, *, reader: int) -> bool:
    """Whether a log that is there is of jobs of user `reader`, and goes on; else it must make way. Raises `OSError`."""
    fd = _open(path)
    if fd is None:
        return True
    try:
        return named_readers(fd) == frozenset({reader}) - {os.fstat(fd).st_uid}
    finally:
        os.close(fd)


def _open(path: Path) -> int | None:
    """The log as it is, None where there is none or something else has its name."""
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
    part = path.with_name(f".phd-{secrets.token_hex(8)}.tmp")  # the purge knows this name, should we be killed
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
    """Give a new log its name; a sentence about what was in its way."""
    try:
        durable.move(part, path, durable=False)
    except FileExistsError:
        if _ours(os.lstat(path)):
            raise
        return take_over(part, path)
    return ""


def _ours(found: os.stat_result) -> bool:
    return is_own(found) and found.st_nlink == 1


def _stamped(text: str) -> bytes:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    return "".join(f"{stamp} {_harmless(line)}\n" for line in text.split("\n")).encode("utf-8", "backslashreplace")


def _harmless(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c in "%\t" else naming.printable(c) for c in line)
