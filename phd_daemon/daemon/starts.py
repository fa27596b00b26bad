"""Gives workers to what waits: asks the scheduler whom, claims, starts, and puts back what could not be started."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from phd_daemon.config import Config
from phd_daemon.daemon.children import Workers
from phd_daemon.daemon.guard import guarded
from phd_daemon.daemon.policy import disk_key, work_order
from phd_daemon.daemon.waits import Waits
from phd_daemon.host.datastores import learn_from, looked_at_once, record_of
from phd_daemon.spool.keeper import Keeper
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scheduler import Plan, StartLimits, WaitingJob, schedule
from phd_daemon.spool.status_file import in_one_line
from phd_daemon.spool.transitions import Claim
from restore_core.errors import PhdError
from restore_core.naming import printable

_log = logging.getLogger(__name__)
PUT_BACK_SECONDS = 60.0


class Starts:
    """`watch` is called with each new worker's pidfd."""

    def __init__(self, spool: Spool, workers: Workers, *, watch: Callable[[int], None]) -> None:
        self._spool, self._workers, self._watch = spool, workers, watch
        self._waits = Waits()

    def start_what_can(self, config: Config, keeper: Keeper, ready: Iterable[JobRecord]) -> Plan:
        """One look at the queue: start as many as may run, and tell the others what they wait for."""
        running = {record.stem: record.control.restore_to for record in keeper.busy() if record.control is not None}
        roots = config.datastores.roots
        limits = StartLimits(
            workers=config.queue.workers,
            enabled=config.queue.enabled,
            key=lambda path: _key(path, roots),
            unmounted=looked_at_once(record_of(config)),
        )
        candidates = []
        for record in ready:
            with guarded("queue", record.stem):
                candidates.append(_candidate(record))
        plan = schedule(candidates, running, limits=limits, now=time.time())
        for name in plan.start:
            with guarded("start", name):
                self._start(config, keeper, name)
        with guarded("reasons to wait"):
            self._waits.tell(self._spool, plan)
        return plan

    def _start(self, config: Config, keeper: Keeper, name: str) -> None:
        try:
            claim = keeper.claim(name)
        except OSError as error:
            _log.warning("cannot be started now", extra={"job": printable(name), "why": str(error)})
            return
        if claim is None:
            return
        failed, bug = "", False
        try:
            self._hand_over(config, claim)
        except (OSError, MemoryError) as error:  # no process to be had: EAGAIN, ENOMEM, EMFILE
            failed = f"no worker could be started: {getattr(error, 'strerror', '') or str(error) or 'not enough memory'}"
        except PhdError as error:
            failed = in_one_line(str(error))
        except Exception as error:  # noqa: BLE001  it ends like a job whose workers die
            failed, bug = f"no worker could be started: a bug of ours: {type(error).__name__}: {printable(str(error))}", True
            _log.exception("a bug of ours; the others go on", extra={"job": printable(name)})
        finally:
            os.close(claim.lock_fd)  # from now on the lock lives in the worker alone
        if failed:
            keeper.put_back(name, why=failed, wait=PUT_BACK_SECONDS, died=bug)
            _log.warning("put back", extra={"job": printable(name), "why": failed})

    def _hand_over(self, config: Config, claim: Claim) -> None:
        record = claim.record
        if record.control is not None:
            learn_from(record.control.restore_to, record_of(config))
        worker = self._workers.start(work_order(config, self._spool, claim), log=self._spool.log(record.stem))
        with guarded("watch", record.stem):  # it runs: whatever this ends with, the job must not be put back
            self._watch(worker.pidfd)
        _log.info("started", extra={"job": printable(record.stem), "attempt": worker.attempt, "pid": worker.pid})


def _key(path: Path, roots: tuple[Path, ...]) -> Hashable:
    with guarded("destination"):
        return disk_key(path, roots)
    return path  # the worker will say what is wrong with it


def _candidate(record: JobRecord) -> WaitingJob:
    if record.control is None:
        raise AssertionError(f"{record.stem} is ready without having been accepted")
    return WaitingJob(
        name=record.stem,
        priority=record.control.priority,
        arrived_ns=record.arrived_ns,
        not_before=record.not_before_ns / 1e9,
        next_try=record.next_try,
        why_next_try=record.why_waiting,
        destination=record.control.restore_to,
    )
