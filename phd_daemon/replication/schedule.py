"""The daemon's side of replication: starts a pass when it is due, as a child process of its own, and hears of its end.

A pass that hangs on a target is told to end after an hour and then killed; the daemon never waits for it. At most one runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phd_daemon.config.model import Config
from phd_daemon.host.utf8 import PYTHON
from phd_daemon.replication.rules_file import last_good
from phd_daemon.replication.timers import Timer, start_file
from restore_core.naming import printable

_log = logging.getLogger(__name__)
COMMAND = (*PYTHON, "-m", "phd_daemon.replication.one_pass")
MOST_SECONDS = 3600.0
_TERM_SECONDS = 10.0
_SAID_BYTES = 4096


@dataclass(slots=True, kw_only=True)
class _Child:
    process: subprocess.Popen[bytes]
    pidfd: int
    said: int
    end: float


class Passes:
    """`watch` and `unwatch` tell the main loop which file to wake up for."""

    def __init__(self, *, watch: Callable[[int], None], unwatch: Callable[[int], None], command: Sequence[str] = COMMAND) -> None:
        self._watch, self._unwatch, self._command = watch, unwatch, tuple(command)
        self._timer: Timer | None = None
        self._child: _Child | None = None

    def trigger(self, config: Config) -> None:
        """A pass now, or right after the one that is running."""
        self._timer_of(config).trigger()

    def turn(self, config: Config) -> float | None:
        """Hear of an end, start what is due; seconds until there is something to do again, None if there is not."""
        self._reap()
        if self._child is not None:
            return max(self._child.end - time.monotonic(), 1.0)
        if not config.replication.enabled or not (config.replication.rules.exists() or last_good(config).exists()):
            return None
        timer = self._timer_of(config)
        due = timer.due_in(config.replication.every)
        if due > 0:
            return due
        timer.started()
        self._start(config)
        return 1.0

    def stop(self) -> None:
        """The daemon stops: tell a running pass to end. What it queued stays queued."""
        if self._child is not None:
            _send(self._child, signal.SIGTERM)

    def _timer_of(self, config: Config) -> Timer:
        if self._timer is None:
            self._timer = Timer(start_file(config.state_dir))
        return self._timer

    def _start(self, config: Config) -> None:
        source = [os.fspath(config.source)] if config.source else []
        said = os.memfd_create("pass", os.MFD_CLOEXEC)
        try:
            process = subprocess.Popen(  # noqa: S603  our own command line, no part of it from outside
                [*self._command, *source], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
            pidfd = _pidfd(process)
        except OSError as error:  # EAGAIN, ENOMEM, EMFILE: tried again in a minute
            os.close(said)
            _log.warning("no replication pass could be started", extra={"why": str(error)})
            return
        self._child = _Child(process=process, pidfd=pidfd, said=said, end=time.monotonic() + MOST_SECONDS)
        self._watch(pidfd)

    def _reap(self) -> None:
        child = self._child
        if child is None:
            return
        if not select.select([child.pidfd], [], [], 0)[0]:
            late = time.monotonic() - child.end
            if late >= 0:
                _send(child, signal.SIGKILL if late >= _TERM_SECONDS else signal.SIGTERM)
            return
        code = child.process.wait()
        self._unwatch(child.pidfd)
        os.close(child.pidfd)
        _log.log(
            logging.INFO if code == 0 else logging.WARNING, "replication pass", extra={"exit_code": code, "said": _said(child.said)}
        )
        self._child = None


def _pidfd(process: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(process.pid)  # not reaped yet, so the pid is still this child's
    except OSError:
        process.kill()
        process.wait()
        raise


def _send(child: _Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.pidfd, number)


def _said(fd: int) -> str:
    """The end of what a pass said: its summary, or a traceback."""
    try:
        size = os.fstat(fd).st_size
        return printable(os.pread(fd, _SAID_BYTES, max(size - _SAID_BYTES, 0)).strip().replace(b"\n", b" / "))
    finally:
        os.close(fd)
