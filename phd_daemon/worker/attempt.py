"""The child's side of a job: one attempt, from the work order on standard input to the outcome in `JOB.status`.

    read the order -> confined -> restore_core.restore -> outcome durable in JOB.status -> one line in JOB.log -> exit code

The worker reads no configuration, no control file and no environment. Before it reads a byte of an archive it gives up, for its
whole life, the right to execute programs and to write anywhere but in the spool, the catalog and the folder of the disk
(`sandbox`). It has inherited the job's lock; its death frees the lock, so the daemon always knows whether it lives. It is told to
stop in two ways: by SIGTERM, and by the removal of `JOB.running`. If that file is gone the job was cancelled; SIGTERM alone means
that the daemon is stopping, and the part file stays for the next attempt.

Errors become an outcome in one place, `result_of`. Imported here: the standard library, restore_core, and the job's files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from phd_daemon.host.process import be_killed_first, forbid_core_dumps, tune_malloc
from phd_daemon.show.progress import clock
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.layout import State
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status
from phd_daemon.worker import sandbox
from phd_daemon.worker.order import WorkOrder, from_json
from phd_daemon.worker.report import WorkerReport
from restore_core.disk.confinement import above_made, walk_to
from restore_core.errors import ExitCode, PhdError, Stopped, from_os_error, in_one_line
from restore_core.naming import printable
from restore_core.restore.request import RestoreOutcome
from restore_core.restore.run import restore_delta
from restore_core.targets import TargetSet

_LOOK_EVERY = 1.0
_KEPT = (Result.TRY_AGAIN, Result.STOPPED)


class StopSign:
    """Tells a restore to stop: after SIGTERM, or when `JOB.running` is gone. It is called between two blocks, by any thread."""

    def __init__(self, spool: Path, job: str) -> None:
        self._running = spool / f"{job}.running"
        self._state = spool / ".state"
        self.terminated = False
        self._looked = 0.0
        self.cancelled = False
        """Why it stopped. Decided once for all threads: part file and outcome must not disagree."""
        self._over = False
        self._deciding = threading.Lock()

    def on_sigterm(self, *_: object) -> None:
        """The handler of the signal; the restore stops at its next block."""
        self.terminated = True

    def __call__(self) -> None:
        """Raises `Stopped` when the work must end. Looks at the spool about once a second."""
        now = time.monotonic()
        with self._deciding:
            if not self._over:
                if not self.terminated and now - self._looked < _LOOK_EVERY:
                    return
                self._looked = now
                self.cancelled = self._file_is_gone()
                self._over = self.cancelled or self.terminated
        if self._over:
            raise Stopped("cancelled" if self.cancelled else "told to stop")

    def _file_is_gone(self) -> bool:
        # A spool that is gone as a whole (unmounted, renamed) cancels nothing.
        return not os.path.lexists(self._running) and self._state.is_dir()


def result_of(error: BaseException, order: WorkOrder, *, cancelled: bool) -> tuple[Result, ExitCode, str]:
    """Returns what an error means for the job: how the attempt ended, the exit code, and the reason with its remedy."""
    match error:
        case Stopped() if cancelled:
            return Result.CANCELLED, ExitCode.INTERRUPTED, "cancelled"
        case Stopped():
            return Result.STOPPED, ExitCode.INTERRUPTED, "the daemon is stopping"
        case PhdError():
            return Result.TRY_AGAIN if error.try_again else Result.FAILED, error.exit_code, str(error)
        case MemoryError():
            return Result.TRY_AGAIN, ExitCode.TRY_AGAIN, "not enough memory"
        case OSError():
            return result_of(from_os_error(error, doing="restoring", where=order.restore_to), order, cancelled=cancelled)
        case _:
            what = "".join(traceback.format_exception_only(error)).strip()
            return Result.FAILED, ExitCode.OUR_BUG, f"this is a bug of ours: {what}"


def attempt(
    order: WorkOrder, stop: StopSign, *, restore: Callable[..., RestoreOutcome] = restore_delta, confined: str = ""
) -> Outcome:
    """Runs the order to its end and writes the outcome. `confined` says what the process may still do, for the log.

    Raises `OSError` only when the outcome cannot be written.
    """
    spool = Path(order.spool)
    log, path = JobLog(spool / f"{order.job}.log"), spool / f"{order.job}.status"
    began, counted = time.time(), True
    report = WorkerReport(log=log, path=path, status=_first_status(order, path, began))
    report.write()
    log.line(f"attempt {order.attempt}" + (f"\n{confined}" if confined else ""))
    targets = TargetSet(order.targets, stop=stop)
    try:
        done = restore(
            order.request(),
            targets,
            reporter=report,
            stop=stop,
            keep_part=lambda error: result_of(error, order, cancelled=stop.cancelled)[0] in _KEPT,
        )
        result, code, reason = Result.DONE, ExitCode.DONE, _achieved(done)
    except BaseException as error:  # noqa: BLE001  `result_of` says what each error means for a job
        result, code, reason = result_of(error, order, cancelled=stop.cancelled)
        counted = not isinstance(error, PhdError) or error.counts_as_try
        if code is ExitCode.OUR_BUG:
            log.line("".join(traceback.format_exception(error, limit=-6)).rstrip(), past_cap=True)
    finally:
        targets.close()
    outcome = Outcome(
        attempt=order.attempt, result=result, exit_code=int(code), reason=reason, finished_at=time.time(), counted=counted
    )
    report.ended(outcome, told_to_stop=lambda: stop.terminated)
    log.line(outcome_line(outcome), past_cap=True)
    return outcome


def outcome_line(outcome: Outcome) -> str:
    """Returns the last line of an attempt in the log: its result, why, and what to do."""
    reason = in_one_line(outcome.reason)
    match outcome.result:
        case Result.DONE | Result.FAILED:
            return f"{outcome.result.value}: {reason}"
        case Result.TRY_AGAIN:
            return f"not this time: {reason}"
        case Result.CANCELLED:
            return "cancelled: what was written is removed"
        case Result.STOPPED:
            return "stopped: the daemon is stopping; the job waits and will be run again"


def confine_to_order(order: WorkOrder) -> sandbox.Confinement:
    """Allows this process to execute nothing, and to write only in the spool, the catalog and the folder of the disk.

    Where that folder is not there yet, or an attempt made it (so that it may go again), it is the nearest one above it, in the
    datastore. For an impossible destination none is opened: the attempt itself reports what is wrong with it.
    """
    with contextlib.ExitStack() as stack:
        for folder in filter(None, (order.catalog, order.records)):
            with contextlib.suppress(OSError):
                os.makedirs(folder, mode=0o700, exist_ok=True)  # later it cannot be made any more
        folders = list(stack.enter_context(sandbox.opened([order.spool, order.records, order.catalog])))
        with contextlib.suppress(PhdError, OSError):
            walk = walk_to(Path(order.restore_to).parent, tuple(Path(root) for root in order.roots))
            nearest = above_made(walk.fd, walk.datastore)
            stack.callback(os.close, nearest)
            folders.append(nearest)
        return sandbox.confine(folders)


def main() -> int:
    """The process: `python -m phd_daemon.worker.attempt`, work order on standard input, exit code that of the outcome."""
    # ^C in the terminal of a foreground daemon, and the end of that terminal, are for the daemon to act on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    be_killed_first()
    forbid_core_dumps()
    tune_malloc()
    order = from_json(sys.stdin.buffer.read())
    stop = StopSign(Path(order.spool), order.job)
    signal.signal(signal.SIGTERM, stop.on_sigterm)
    confined = confine_to_order(order)  # while there is one thread
    try:
        return attempt(order, stop, confined=confined.describe()).exit_code
    except OSError as error:  # without an outcome the daemon starts another worker, which finds the disk
        why = f"how this ended cannot be written down: {printable(str(error))}"
        JobLog(Path(order.spool) / f"{order.job}.log").line(why, past_cap=True)
        return ExitCode.TRY_AGAIN


def _first_status(order: WorkOrder, path: Path, now: float) -> JobStatus:
    known = read_status(path)
    if known is None:  # somebody removed it: it is made again from the order
        known = JobStatus(
            job=order.job,
            state=State.RUNNING.meaning,
            submitter="",
            delta=order.delta,
            restore_to=order.restore_to,
            priority=5,
            accepted_at=now,
        )
    return known.with_(attempt=order.attempt, started_at=now, pid=os.getpid(), plan=None, progress=None, outcome=None)


def _achieved(done: RestoreOutcome) -> str:
    vmx = f", VMX {printable(done.vmx.name)}" if done.vmx else ""
    where = printable(str(done.destination))
    return f"{where}: {done.disk_size} bytes verified and durable in {clock(done.seconds)} ({done.way}{vmx})"


if __name__ == "__main__":
    sys.exit(main())
