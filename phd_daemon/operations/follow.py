"""A job's log as it grows, until the job is final. Reads only: leaving the viewer changes nothing."""

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
from phd_daemon.spool.requests import states
from phd_daemon.spool.status_file import read_status
from restore_core.errors import ExitCode, UsageError
from restore_core.naming import printable

_POLL = 0.2
_PATIENCE = 5.0
_CHUNK = 1 << 16


def state_of(spool: Spool, stem: str) -> State | None:
    """Where the job is, None when there is no such job. Asked twice: a rename in between hides it from one look.

    Where a new file of that name waits beside a finished one, it is the new one that counts.
    """
    found = states(spool.folder, stem) or states(spool.folder, stem)
    return found[0] if found else None


def known_job(spool: Spool, stem: str) -> State | None:
    """The state of a job a person named; None when only its log is left. `UsageError` when there is nothing of it."""
    state = state_of(spool, stem)
    if state is None and not (is_stem(stem) and spool.log(stem).is_file()):
        raise UsageError(f"no job is named '{printable(stem)}'", remedy="'phd queue' lists them.")
    return state


def follow(spool: Spool, stem: str) -> Iterator[str]:
    """Pieces of the log, from its first line on, until the job is final or gone."""
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
    """Has the job ended; None when it is cancelled and its worker has not said its last word.

    A person cancels a running job by giving it its final name, so here the rename comes first. Without a daemon the
    last word may never come, so nobody waits long for it. The pid goes when the daemon has seen the worker end.
    """
    state = state_of(spool, stem)
    if state is State.CANCELLED:
        status = read_status(spool.status(stem))
        return True if status is None or status.pid is None else None
    return state is None or state.final


class _Log:
    """What was added to a log since the last look; one that was replaced under its name is begun again."""

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
