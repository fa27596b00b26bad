"""The daemon: its parts and its main loop.

  control file -> spool -> scheduler -> worker (child process) -> plan > fetch > decode > verify > write > publish -> outcome + log
  targets -> catalog -> rules -> ledger -> spool            (replication, console and web submit like anyone else)

One turn of the loop: sleep until something rings or is due; look at signals, ended workers, a pass that is due; check that the
spool is still the same folder; make one round over it; start what the scheduler says. Recovery after a crash is the first turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config, changed_tables, needs_restart
from phd_daemon.daemon import logs
from phd_daemon.daemon.children import HungWatch, Workers
from phd_daemon.daemon.ends import drop_part, enter
from phd_daemon.daemon.loop import Guard, Sleep, observer_that_cannot_fail
from phd_daemon.daemon.starts import Starts
from phd_daemon.daemon.systemd import Notifier
from phd_daemon.replication.schedule import Passes
from phd_daemon.spool import events
from phd_daemon.spool.intake import intake_rules
from phd_daemon.spool.keeper import Keeper, Round, WorkerEnd
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.locks import PidLock
from phd_daemon.spool.purge import purge
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.safety import check_spool
from phd_daemon.spool.scheduler import StartPlan
from phd_daemon.spool.status_file import read_status
from phd_daemon.spool.watcher import POLL_SECONDS, SpoolWatcher
from restore_core.errors import ConfigurationError, ExitCode, PhdError
from restore_core.naming import printable

_log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RESCAN_SECONDS = 30.0
PURGE_SECONDS = 600.0
DRAIN_SECONDS = 85.0
KILL_BEFORE_END = 5.0


def open_spool(config: Config) -> PidLock:
    """Checks the spool and takes the lock of its one daemon.

    Raises `ConfigurationError` for a folder that cannot be a spool, `TryAgainLater` when another daemon has it.
    """
    spool = Spool(folder=config.queue.spool)
    check_spool(spool)
    lock = PidLock(spool.daemon_lock)
    lock.acquire()
    return lock


class Service:
    """One daemon for one spool. It is made before detaching, so it opens files and starts threads only in `run`."""

    def __init__(
        self, config: Config, *, lock: PidLock, notifier: Notifier, command: Sequence[str], on_event: events.OnEvent
    ) -> None:
        self._config = config
        self._config_seen = _settings_seen(config.source)
        self._policy = intake_rules(config)
        self._invalid = ""
        self._spool = Spool(folder=config.queue.spool)
        self._spool_seen = self._locked_folder = _seen(self._spool.folder, "st_dev", "st_ino")
        self._lock = lock
        self._notifier = notifier
        self._on_event = observer_that_cannot_fail(on_event)
        self._guarded = Guard(self._on_event)
        self._workers = Workers(command)
        self._hung = HungWatch()
        self._keeper: Keeper | None = None
        self._adopted: set[tuple[str, int]] = set()
        self._rescan_at = self._purge_at = self._alive_at = 0.0

    def run(self) -> ExitCode:
        """Serves the spool until SIGTERM or SIGINT, then stops the workers."""
        with self._lock:
            self._sleep = Sleep(SIGNALS)
            self._watcher = SpoolWatcher(self._spool.folder, self._sleep.wake)
            watch = self._sleep.add
            self._starts = Starts(self._spool, self._workers, watch=watch, guarded=self._guarded, on_event=self._on_event)
            self._passes = Passes(watch=watch, unwatch=self._sleep.remove, on_event=self._on_event)
            try:
                self._keeper = self._new_keeper()
                due = self._turn()
                self._notifier.ready(self._summary())
                self._on_event(events.DaemonStarted(spool=self._spool.folder, pid=os.getpid()))
                while not self._told_to_stop():
                    self._sleep.wait(due)
                    due = self._turn()
                self._drain()
            finally:
                self._watcher.close()
                self._sleep.close()
        return ExitCode.DONE

    def _turn(self) -> float:
        """Does everything that is to do now; returns the seconds until something is due without a ring. Raises nothing."""
        with self._guarded("turn"):
            return self._work()
        return POLL_SECONDS

    def _work(self) -> float:
        started = time.monotonic()
        self._tick()
        rescan = started >= self._rescan_at
        if rescan:
            self._rescan_at = started + RESCAN_SECONDS
            with self._guarded("settings"):
                self._reload_if_changed()
            with self._guarded("hung workers"):
                self._hung.look(self._workers, self._spool, deadline=self._config.queue.hung_after)
        watched = self._watcher.watch()
        with self._guarded("ended workers"):
            self._reap()
        next_pass: float | None = RESCAN_SECONDS
        with self._guarded("replication"):
            next_pass = self._passes.turn(self._config)
        keeper = self._keeper_of_the_folder()
        if keeper is None:
            return POLL_SECONDS
        try:
            found = keeper.round(self._policy, renamed_in=self._watcher.take_renamed())
            plan = self._start_what_can(keeper, found)
            if started >= self._purge_at:
                with self._guarded("purge"):
                    self._purge(keeper, started)
        except (OSError, MemoryError) as error:
            _log.error("the spool cannot be served just now", extra={"why": str(error) or "not enough memory"})
            return POLL_SECONDS
        self._notifier.status(self._summary())
        due = self._due(found, plan, watched=watched, started=started)
        return due if next_pass is None else min(due, next_pass)

    def _due(self, found: Round, plan: StartPlan, *, watched: bool, started: float) -> float:
        now = time.monotonic()
        dues = [self._rescan_at - now]
        if found.after is not None:
            dues.append(found.after)
        if plan.next_due is not None:
            dues.append(plan.next_due - time.time())
        if not watched or any(self._workers.of(record.stem) is None for record in (*found.live, *found.cancel)):
            dues.append(POLL_SECONDS)
        if self._notifier.watchdog_seconds is not None:
            dues.append(self._notifier.watchdog_seconds / 2)
        # With very many events the rounds take at most half of the time, unless this round left something to do.
        pause = min(now - started, 1.0) if now - started > 0.05 and found.after != 0.0 else 0.0
        return max(min(dues), pause)

    def _start_what_can(self, keeper: Keeper, found: Round) -> StartPlan:
        for record in (*found.live, *found.cancel):
            with self._guarded("adopt", record.stem):
                self._adopt(record)
        for record in found.cancel:
            with self._guarded("stop", record.stem):
                self._workers.stop(record.stem)
        return self._starts.start_what_can(self._config, keeper, found.ready)

    def _adopt(self, record: JobRecord) -> None:
        if self._workers.of(record.stem) is not None:
            return
        status = read_status(self._spool.status(record.stem))
        pid, began = (status.pid, status.started_at) if status else (None, None)
        worker = self._workers.adopt(record.stem, attempt=record.attempt, pid=pid, started_at=began)
        if worker is not None:
            self._sleep.add(worker.pidfd)
        if (record.stem, record.attempt) not in self._adopted:
            self._adopted.add((record.stem, record.attempt))
            self._on_event(events.JobAdopted(job=record, pid=pid))

    def _reap(self, *, draining: bool = False) -> None:
        for worker, how in self._workers.reap():
            self._sleep.remove(worker.pidfd)
            worker.close()
            if self._keeper is not None:
                stop_asked = draining and worker.stop_asked and not worker.hung
                end = WorkerEnd(how=worker.hung or how, stop_asked=stop_asked, hung=bool(worker.hung))
                self._keeper.worker_ended(worker.job, end)

    def _job_ended(self, record: JobRecord) -> None:
        """Deletes what a job that has ended left unfinished, should its worker not have done so."""
        if drop_part(record, self._config.datastores.roots):
            _log.info("unfinished disk removed", extra={"job": printable(record.stem)})

    def _told_to_stop(self) -> bool:
        noted = self._sleep.signals()
        if noted & {signal.SIGTERM, signal.SIGINT}:
            return True
        if signal.SIGHUP in noted:
            with self._guarded("log file"):
                logs.reopen()
            with self._guarded("settings"):
                self._reload()
                self._passes.trigger(self._config)
            self._sleep.wake()
        return False

    def _drain(self) -> None:
        """Stops the workers. They keep their part files, and their jobs wait again."""
        self._notifier.stopping("stopping: waiting for workers to stop")
        _log.info("stopping", extra={"workers": len(self._workers)})
        end = time.monotonic() + DRAIN_SECONDS
        self._passes.stop()
        for worker in self._workers.all():
            self._workers.stop(worker.job)
        while len(self._workers) and (left := end - time.monotonic()) > 0:
            self._sleep.wait(min(left, 1.0))
            self._tick()
            with self._guarded("ended workers"):
                self._reap(draining=True)
            if left < KILL_BEFORE_END:
                for worker in self._workers.all():
                    self._workers.kill(worker.job)
        with self._guarded("ended workers"):
            self._reap(draining=True)
        if self._keeper is not None:
            with self._guarded("last round"), contextlib.suppress(OSError):
                self._keeper.round(replace(self._policy, open=False))
        self._on_event(events.DaemonStopped(workers_left=tuple(worker.job for worker in self._workers.all())))

    def _reload_if_changed(self) -> None:
        if _settings_seen(self._config.source) != self._config_seen:
            self._reload()

    def _reload(self) -> None:
        self._notifier.reloading()
        self._config_seen = _settings_seen(self._config.source)
        try:
            config = load_config(self._config.source)
        except ConfigurationError as error:
            self._invalid = ", phd.toml is invalid: the old settings stay"
            _log.error("the configuration is invalid: the old settings stay", extra={"why": str(error)})
        else:
            for key in needs_restart(self._config, config):
                _log.warning("a changed setting needs a restart", extra={"key": key})
            now = {"workers": config.queue.workers, "enabled": config.queue.enabled}
            changed = changed_tables(self._config, config)
            self._config, self._policy, self._invalid = config, intake_rules(config), ""
            _log.info("configuration read again", extra={**now, "changed": changed or "nothing"})
        self._notifier.ready(self._summary())

    def _keeper_of_the_folder(self) -> Keeper | None:
        """Returns the keeper of the folder that is the spool now, which may be another than before; None if it cannot be served."""
        seen = _seen(self._spool.folder, "st_dev", "st_ino")
        if seen == self._spool_seen and self._keeper is not None:
            return self._keeper
        if seen != self._spool_seen:
            self._spool_seen, self._keeper = seen, None
            _log.error("the spool is not the folder it was", extra={"spool": printable(str(self._spool.folder))})
        try:
            check_spool(self._spool)
            if seen != self._locked_folder:  # otherwise it is back, and we still hold its lock
                self._change_lock()
                self._locked_folder = seen
            self._keeper = self._new_keeper()
        except (PhdError, OSError) as error:
            self._notifier.status(f"no spool: {error}")
            return None
        _log.warning("serving the spool folder that is there now", extra={"spool": printable(str(self._spool.folder))})
        return self._keeper

    def _change_lock(self) -> None:
        lock = PidLock(self._spool.daemon_lock)
        lock.acquire()
        self._lock.release()
        self._lock = lock.__enter__()

    def _new_keeper(self) -> Keeper:
        return Keeper(
            self._spool,
            ended=self._job_ended,
            tick=self._tick,
            enter=self._enter,
            unreaped=self._workers.unreaped,
            on_event=self._on_event,
        )

    def _enter(self, record: JobRecord, finished: float) -> None:
        enter(record, finished, self._config.replication.ledger)

    def _purge(self, keeper: Keeper, started: float) -> None:
        self._purge_at = started + PURGE_SECONDS
        busy = {record.stem for record in keeper.busy()}
        for stem in purge(self._spool, older_than=self._config.queue.purge_after, now=time.time(), busy=busy):
            _log.info("purged", extra={"job": printable(stem)})

    def _tick(self) -> None:
        """Tells systemd that the loop makes progress. Nothing else does."""
        every, now = self._notifier.watchdog_seconds, time.monotonic()
        if every is not None and now >= self._alive_at:
            self._alive_at = now + every / 4
            self._notifier.alive()

    def _summary(self) -> str:
        state = "" if self._config.queue.enabled else ", the queue is disabled"
        return f"{len(self._workers)} of {self._config.queue.workers} workers running{state}{self._invalid}"


def _seen(path: Path | None, *fields: str) -> tuple[int, ...] | None:
    """Returns these fields of `os.stat` of a path; None if it is not there."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return tuple(getattr(found, field) for field in fields) if found else None


def _settings_seen(path: Path | None) -> tuple[int, ...] | None:
    return _seen(path, "st_ino", "st_size", "st_mtime_ns")
