"""The daemon's side of replication: when a pass is due, and the child process that makes it.

A pass is due `every` seconds after the last start, which is kept in a file. One that was missed while no daemon ran is made up for
once, not once an hour missed. A clock that was set back makes a pass due at once, never a year late; and whatever the wall clock or
the file says, two starts are at least a minute apart (or `every`, if that is less) unless a person asked.
The daemon never waits for a pass. One that hangs on a target is told to end after an hour, and then killed. At most one runs.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.host.catalog import catalog_of
from phd_daemon.host.child import has_ended, send, start_child
from phd_daemon.host.utf8 import PYTHON
from phd_daemon.replication.pass_record import last_record
from phd_daemon.replication.rules_file import last_good
from phd_daemon.spool.events import OnEvent, PassEnded, PassStarted, TargetBack, TargetLost, TargetPartial
from restore_core import durable
from restore_core.durable import read_plain
from restore_core.naming import printable

_log = logging.getLogger(__name__)
COMMAND = (*PYTHON, "-P", "-m", "phd_daemon.replication.one_pass")
MOST_SECONDS = 3600.0
_TERM_SECONDS = 10.0
_SAID_BYTES = 4096
_APART = 60.0
_SLACK = 1.0
_START_BYTES = 64


def start_file(state_dir: Path) -> Path:
    """Returns the path of the file that holds when the last pass was started."""
    return state_dir / "replicate.started"


def last_start(path: Path) -> float | None:
    """Returns when the last pass was started, in seconds since the epoch; None if no start is known."""
    try:
        return float(read_plain(path, _START_BYTES))
    except (OSError, ValueError):
        return None


def note_start(path: Path, now: float) -> None:
    """Writes when a pass starts, durably: a restart right after must not start another one. Raises `OSError`."""
    durable.write_whole(path, f"{now:.3f}\n".encode())


class Timer:
    """Says when the next pass is due. `path` holds the time of the last start, by the daemon or by a person."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._clock, self._monotonic = path, clock, monotonic
        self._own: float | None = None
        self._asked = False

    def trigger(self) -> None:
        """A person asks for a pass now."""
        self._asked = True

    def due_in(self, every: float) -> float:
        """Returns the seconds until the next start; 0.0 is now."""
        if self._asked:
            return 0.0
        now, last = self._clock(), last_start(self._path)
        by_wall = 0.0 if last is None or last > now + _SLACK else last + every - now
        by_own = 0.0 if self._own is None else self._own + min(_APART, every) - self._monotonic()
        return max(by_wall, by_own, 0.0)

    def started(self) -> None:
        """A pass has been started from here."""
        self._asked, self._own = False, self._monotonic()


@dataclass(slots=True, kw_only=True)
class _Child:
    """A pass that runs. `said` is a file with its output, `began` is monotonic."""

    process: subprocess.Popen[bytes]
    pidfd: int
    said: int
    began: float


class Passes:
    """Starts passes and learns of their ends. `watch` and `unwatch` tell the main loop which file to wake up for."""

    def __init__(
        self,
        *,
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
        on_event: OnEvent,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._watch, self._unwatch, self._on_event, self._command = watch, unwatch, on_event, tuple(command)
        self._timer: Timer | None = None
        self._child: _Child | None = None
        self._troubles: dict[str, str] = {}

    def trigger(self, config: Config) -> None:
        """Asks for a pass now, or right after the one that is running."""
        self._timer_of(config).trigger()

    def turn(self, config: Config) -> float | None:
        """Sees whether a pass has ended and starts one that is due; returns the seconds until there is something to do, or None."""
        self._reap(config)
        if self._child is not None:
            return max(self._child.began + MOST_SECONDS - time.monotonic(), 1.0)
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
        """Tells a running pass to end, since the daemon stops. What it queued stays queued."""
        if self._child is not None:
            send(self._child.pidfd, signal.SIGTERM)

    def _timer_of(self, config: Config) -> Timer:
        if self._timer is None:
            self._timer = Timer(start_file(config.state_dir))
        return self._timer

    def _start(self, config: Config) -> None:
        source = [os.fspath(config.source)] if config.source else []
        said = os.memfd_create("pass", os.MFD_CLOEXEC)
        try:
            process, pidfd = start_child([*self._command, *source], stdout=said, stderr=said)
        except OSError as error:  # EAGAIN, ENOMEM, EMFILE: tried again in a minute
            os.close(said)
            _log.warning("no replication pass could be started", extra={"why": str(error)})
            return
        self._child = _Child(process=process, pidfd=pidfd, said=said, began=time.monotonic())
        self._watch(pidfd)
        self._on_event(PassStarted(pid=process.pid))

    def _reap(self, config: Config) -> None:
        child = self._child
        if child is None:
            return
        seconds = time.monotonic() - child.began
        if not has_ended(child.pidfd):
            if seconds >= MOST_SECONDS:
                send(child.pidfd, signal.SIGKILL if seconds >= MOST_SECONDS + _TERM_SECONDS else signal.SIGTERM)
            return
        code = child.process.wait()
        self._unwatch(child.pidfd)
        os.close(child.pidfd)
        self._child = None
        said = _said(child.said)
        self._on_event(PassEnded(exit_code=code, said=said, seconds=seconds, record=last_record(config.state_dir, said)))
        self._tell_targets(config)

    def _tell_targets(self, config: Config) -> None:
        """Compares the troubles of all targets with those after the last pass."""
        known = catalog_of(config).known()
        for one in known:
            before = self._troubles.get(one.target, "")
            if one.problem and before != "lost":
                self._on_event(TargetLost(target=one.target, why=one.problem))
            elif one.partial and before != "partial":
                self._on_event(TargetPartial(target=one.target, why=one.partial))
            elif before and not one.trouble:
                self._on_event(TargetBack(target=one.target))
        self._troubles = {one.target: "lost" if one.problem else "partial" for one in known if one.trouble}


def _said(fd: int) -> str:
    """The end of what a pass wrote: its summary, or a traceback."""
    try:
        size = os.fstat(fd).st_size
        return printable(os.pread(fd, _SAID_BYTES, max(size - _SAID_BYTES, 0)).strip().replace(b"\n", b" / "))
    finally:
        os.close(fd)
