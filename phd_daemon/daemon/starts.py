"""Starts workers: asks the scheduler which jobs, claims each, hands its work order to a worker, and tells why the others wait."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.daemon.children import Workers
from phd_daemon.daemon.loop import Guard
from phd_daemon.host.datastores import DatastoreLook, learn_from, record_of
from phd_daemon.spool import events
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.keeper import Keeper
from phd_daemon.spool.layout import Spool, State, parse_name
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scheduler import StartLimits, StartPlan, WaitingJob, schedule
from phd_daemon.spool.session_hints import where_recorded
from phd_daemon.spool.status_file import JobStatus, read_status, write_status
from phd_daemon.spool.transitions import Claim
from phd_daemon.worker.order import WorkOrder
from restore_core.disk.destination import PART_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, destination_key, disk_key, names_for
from restore_core.disk.spelling import as_there_below
from restore_core.errors import PhdError, in_one_line
from restore_core.naming import printable
from restore_core.replication.ledger import from_rule

_log = logging.getLogger(__name__)
PUT_BACK_SECONDS = 60.0


class Starts:
    """Starts the workers of one daemon. `watch` is called with each new worker's pidfd."""

    def __init__(
        self, spool: Spool, workers: Workers, *, watch: Callable[[int], None], guarded: Guard, on_event: events.OnEvent
    ) -> None:
        self._spool, self._workers, self._watch = spool, workers, watch
        self._guarded, self._on_event = guarded, on_event
        self._waits = WaitReasons(spool, guarded)
        self._away: dict[Path, str] = {}

    def start_what_can(self, config: Config, keeper: Keeper, ready: Iterable[JobRecord]) -> StartPlan:
        """Starts as many of the `ready` jobs as may run now, and tells the others what they wait for."""
        running = {record.stem: record.control.restore_to for record in keeper.busy() if record.control is not None}
        look = DatastoreLook(record_of(config))
        limits = StartLimits(
            workers=config.queue.workers,
            enabled=config.queue.enabled,
            key=lambda path: self._key(path, config.datastores.roots),
            unmounted=look,
        )
        candidates = []
        for record in ready:
            with self._guarded("queue", record.stem):
                candidates.append(_candidate(record))
        plan = schedule(candidates, running, limits=limits, now=time.time())
        self._tell_datastores(look)
        for name in plan.start:
            with self._guarded("start", name):
                self._start(config, keeper, name)
        with self._guarded("reasons to wait"):
            self._waits.tell(plan)
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
            self._on_event(events.BugFound(error=error, message="a bug of ours; the others go on", name=name))
        finally:
            os.close(claim.lock_fd)  # from now on the lock lives in the worker alone
        if failed:
            keeper.put_back(name, why=failed, wait=PUT_BACK_SECONDS, died=bug)
            self._on_event(events.JobNotStarted(name=name, why=failed))

    def _hand_over(self, config: Config, claim: Claim) -> None:
        record = claim.record
        if record.control is not None:
            learn_from(record.control.restore_to, record_of(config))
        worker = self._workers.start(work_order(config, self._spool, claim), log=self._spool.log(record.stem))
        with self._guarded("watch", record.stem):  # the worker runs: whatever fails here, the job must not be put back
            self._watch(worker.pidfd)
        self._on_event(events.JobStarted(job=record, pid=worker.pid))

    def _key(self, path: Path, roots: tuple[Path, ...]) -> Hashable:
        with self._guarded("destination"):
            return disk_key(path, roots)
        return path  # the worker will say what is wrong with it

    def _tell_datastores(self, look: DatastoreLook) -> None:
        for datastore, why in look.seen.items():
            if why and not self._away.get(datastore):
                self._on_event(events.DatastoreLost(datastore=datastore, why=why))
            elif not why and self._away.get(datastore):
                self._on_event(events.DatastoreBack(datastore=datastore))
        self._away |= look.seen


class WaitReasons:
    """Tells people why jobs wait: in `JOB.status`, and for a datastore that is away in the job's log, too; each reason once."""

    def __init__(self, spool: Spool, guarded: Guard) -> None:
        self._spool, self._guarded = spool, guarded
        self._told: dict[str, str] = {}
        self._logged: dict[str, str] = {}

    def tell(self, plan: StartPlan) -> None:
        """Writes which jobs wait for another job's destination or for a datastore; `phd queue` sees the other reasons by itself."""
        waits = {name: wait.why for name, wait in plan.waits.items() if wait.behind is not None or wait.unmounted}
        for name in waits.keys() | self._told.keys():
            if waits.get(name) != self._told.get(name) and name in plan.waits:
                if plan.waits[name].unmounted and self._logged.get(name) != waits[name]:
                    JobLog(self._spool.log(name)).line(waits[name])
                    self._logged[name] = waits[name]
                with self._guarded("reason to wait", name):
                    self._write(name, waits.get(name, ""))
        self._told = waits
        # While all workers are busy nobody looks at the datastores: that is no news for the log.
        self._logged = {name: why for name, why in self._logged.items() if name in plan.waits}

    def _write(self, name: str, why: str) -> None:
        path = self._spool.status(name)
        status = read_status(path)
        if status is None:
            return
        # A job that waits for a place does not wait for its next try any more: that time has come.
        told = status.with_(why_waiting=why, next_try=None) if why else status.with_(why_waiting=why)
        try:
            write_status(path, told, durable_now=False)
        except OSError as error:
            _log.warning("why it waits cannot be written down", extra={"job": printable(name), "why": str(error)})


def work_order(config: Config, spool: Spool, claim: Claim) -> WorkOrder:
    """Returns everything that the worker of a claimed job needs."""
    record, control = claim.record, claim.record.control
    if control is None:
        raise AssertionError(f"{record.stem}: claimed without having been accepted")
    return WorkOrder(
        job=record.stem,
        attempt=record.attempt,
        spool=os.fspath(spool.folder),
        lock_fd=claim.lock_fd,
        delta=str(control.delta),
        restore_to=os.fspath(as_there_below(control.restore_to, config.datastores.roots)),
        full=str(control.full) if control.full else None,
        options=control.options,
        roots=tuple(os.fspath(root) for root in config.datastores.roots),
        mode=config.datastores.mode,
        reserved=reserved_space(spool, record.stem, control.restore_to, config.datastores.roots),
        records=os.fspath(spool.receipts),
        datastores=os.fspath(spool.datastores),
        catalog=os.fspath(config.catalog_folder),
        catalog_max_age=config.index.max_age,
        targets=config.targets,
        decided_at=record.mtime_ns / 1e9 if from_rule(record.stem) else 0.0,
        session=control.session,
        session_record=os.fspath(where_recorded(spool, control.session) or "") if control.session else "",
    )


def reserved_space(spool: Spool, job: str, restore_to: Path, roots: tuple[Path, ...]) -> int:
    """Returns the bytes that the other running jobs will still allocate on the file system of `restore_to`; 0 where unknown.

    A thick disk is allocated at its start, a thin one as it is written: what is left of its plan is reserved. A job that has no
    plan yet is not counted; if two of them meet, the second one finds no space when it allocates.
    """
    here = _device(restore_to, roots)
    if here is None:
        return 0
    return sum(_left(status) for status in _running(spool, job) if _device(Path(status.restore_to), roots) == here)


def _running(spool: Spool, job: str) -> Iterator[JobStatus]:
    try:
        names = os.listdir(spool.folder)
    except OSError:
        return
    for name in names:
        found = parse_name(name)
        if found is not None and found[1] is State.RUNNING and found[0] != job:
            status = read_status(spool.status(found[0]))
            if status is not None and status.outcome is None:
                yield status


def _device(path: Path, roots: tuple[Path, ...]) -> int | None:
    key = destination_key(path, roots)
    return key[0] if key is not None else None


def _left(status: JobStatus) -> int:
    plan = status.plan
    if plan is None:
        return 0
    return max(0, plan.get("full_bytes", 0) + plan.get("delta_bytes", 0) - _allocated(Path(status.restore_to)))


def _allocated(restore_to: Path) -> int:
    """Bytes allocated so far to the part file of a job, or to the redo file, staged or sealed, of a refresh in place."""
    total = 0
    try:
        disk_name, _descriptor = names_for(restore_to, confined=True)
    except PhdError:
        return total
    for suffix in (PART_SUFFIX, STAGED_SUFFIX, REDO_SUFFIX):
        with contextlib.suppress(OSError):
            total += os.lstat(restore_to.parent / f"{disk_name}{suffix}").st_blocks * 512
    return total


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
