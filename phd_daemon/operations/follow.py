"""A job and its log: the state, the log as it grows, the exit code. Nothing here changes a job."""

from __future__ import annotations

import codecs
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from phd_daemon.spool.layout import Spool, State, is_stem
from phd_daemon.spool.own_files import open_own
from phd_daemon.spool.requests import meant_job, states
from phd_daemon.spool.status_file import read_status
from restore_core.errors import ExitCode, UsageError
from restore_core.naming import printable

_POLL = 0.2
_PATIENCE = 5.0
_CHUNK = 1 << 16


def state_of(spool: Spool, stem: str) -> State | None:
    """Returns the state of a job; None if there is no such job. It looks twice, since a rename can hide the file from one look.

    If a new file of that name waits beside a finished one, the new one counts.
    """
    found = states(spool.folder, stem) or states(spool.folder, stem)
    return found[0] if found else None


def known_job(spool: Spool, stem: str) -> State | None:
    """Returns the state of a job that a person named; None if only its log is left. Raises `UsageError` if nothing is."""
    state = state_of(spool, stem)
    if state is None and not (is_stem(stem) and spool.log(stem).is_file()):
        meant = meant_job(spool.folder, stem)
        raise UsageError(f"no job is named '{printable(stem)}'{meant}", remedy="'phd queue' lists them.")
    return state


def follow(spool: Spool, stem: str) -> Iterator[str]:
    """Yields the log in pieces, from its first line on, until the job is final or gone."""
    patience = _PATIENCE
    with contextlib.closing(_Log(spool.log(stem))) as log:
        while True:
            # Before the log is read: a job's last line is written before its last rename.
            over = _is_over(spool, stem)
            yield from log.news()
            if over is True or patience <= 0:
                return
            patience = patience - _POLL if over is None else _PATIENCE
            time.sleep(_POLL)


def whole_log(spool: Spool, stem: str) -> Iterator[str]:
    """Yields the log as it is now, in pieces. Raises `FileNotFoundError` if there is none."""
    with open_own(spool.log(stem)) as file:
        yield from codecs.iterdecode(iter(lambda: file.read(_CHUNK), b""), "utf-8", "backslashreplace")


def exit_code(spool: Spool, stem: str) -> int | None:
    """Returns the exit code of a job that is final; None if the job is gone."""
    state = state_of(spool, stem)
    if state is None:
        return None
    status = read_status(spool.status(stem))
    if state is not State.DONE and status is not None and status.outcome is not None and status.outcome.exit_code:
        return status.outcome.exit_code
    return ExitCode.TRY_AGAIN if state.exit_code is None else state.exit_code


def _is_over(spool: Spool, stem: str) -> bool | None:
    """Returns whether the job has ended; None if it is cancelled and its worker may still write to the log.

    A person cancels a running job by renaming its file, so the rename comes before the last line of the log. Without a
    daemon that line may never come, so the wait for it is short. The daemon deletes the pid when the worker has ended.
    """
    state = state_of(spool, stem)
    if state is State.CANCELLED:
        status = read_status(spool.status(stem))
        return True if status is None or status.pid is None else None
    return state is None or state.final


class _Log:
    """Reads what was added to a log since the last read; a log that was replaced is read from its first line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._decoder = _decoder()

    def news(self) -> Iterator[str]:
        if self._file is not None:
            yield from self._rest(self._file)
        if self._file is None or self._replaced(self._file):
            self._reopen()
            if self._file is not None:
                yield from self._rest(self._file)

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            there, ours = self._path.lstat(), os.fstat(file.fileno())
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _reopen(self) -> None:
        self.close()
        self._decoder = _decoder()
        try:
            self._file = open_own(self._path)
        except FileNotFoundError:
            self._file = None

    def _rest(self, file: BinaryIO) -> Iterator[str]:
        while data := file.read(_CHUNK):
            yield self._decoder.decode(data)


def _decoder() -> codecs.IncrementalDecoder:
    # Incremental: a character may be cut in two where one look ends and the next begins.
    return codecs.getincrementaldecoder("utf-8")("backslashreplace")
