"""`JOB.log`: the job's log as plain text, for `tail -f` and `less`. The one writer for daemon and worker.

    2026-11-22 13:18:06 accepted from root

Each line is one `write` to a file opened with O_APPEND, so that lines of two writers never mix. The file is opened
anew for every line: a log that was removed or rotated is simply begun again. Times are local, as in every log an
administrator reads beside it. A log is a view: failing to write it never fails a restore, and it is not made durable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from pathlib import Path

from restore_core import durable, naming

CAP_BYTES = 8 << 20
"""A job that prints for ever stops here; what ends an attempt is still written (FAULTS.md F60)."""
_MARK = "log truncated: it has reached its limit of {} MiB"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = (errno.ELOOP, errno.ENXIO)
"""What opening a link, or a FIFO that nobody reads, ends with."""


class JobLog:
    """Appends lines to the log at `path`."""

    def __init__(self, path: Path, *, cap: int = CAP_BYTES) -> None:
        self.path = path
        self._cap = cap

    def line(self, text: str, *, past_cap: bool = False) -> bool:
        """Append `text`, each of its lines with the time before it. False when nothing could be written.

        Names in `text` have gone through `naming.printable` already; control characters that slipped through are
        escaped here, newlines begin a new line. `past_cap` is for the few lines that end an attempt: they are
        written even when the log is full.
        """
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        data = "".join(f"{stamp} {_harmless(line)}\n" for line in text.split("\n")).encode("utf-8", "backslashreplace")
        try:
            return self._append(data, past_cap=past_cap)
        except OSError:
            return False

    def _append(self, data: bytes, *, past_cap: bool) -> bool:
        fd = open_log(self.path)
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


def open_log(path: Path) -> int:
    """The log, open for appending, made if it is not there. Raises `OSError`.

    In a drop box anybody may have put anything under its name: a FIFO to stop us, a link or a hard link to have us write into
    another file, a file of their own to read and change what we say of somebody else's job. That is removed, not used.
    """
    for _ in range(3):
        with contextlib.suppress(FileNotFoundError):
            try:
                fd = os.open(path, _FLAGS)
            except OSError as error:
                if error.errno not in _NO_FILE:
                    raise
            else:
                if _ours(os.fstat(fd)):
                    return fd
                os.close(fd)
            os.unlink(path)
        with contextlib.suppress(FileExistsError):
            return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
    raise FileExistsError(errno.EEXIST, "somebody puts other things under its name", os.fspath(path))


def _ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid in (0, os.geteuid())


def _harmless(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c in "%\t" else naming.printable(c) for c in line)
