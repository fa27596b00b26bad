"""A worker that restores nothing and keeps the contract: lock, log, status, outcome, SIGTERM, the .running file.

What it does stands in the Delta's name: `/fake/sleep=2,result=failed`. `die=9` kills itself, `deaf` ignores SIGTERM,
`silent` writes no pid.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status, write_status
from phd_daemon.worker.order import from_json

STOPPED: list[int] = []
CODES = {Result.DONE: 0, Result.FAILED: 65, Result.TRY_AGAIN: 69, Result.CANCELLED: 130, Result.STOPPED: 130}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, _frame: STOPPED.append(number))
    order = from_json(sys.stdin.buffer.read())
    wishes = dict(wish.partition("=")[::2] for wish in os.path.basename(order.delta).split(","))
    spool = Path(order.spool)
    running, log, path = spool / f"{order.job}.running", JobLog(spool / f"{order.job}.log"), spool / f"{order.job}.status"
    # The witness: while this attempt runs nobody else may have the job.
    witness = os.open(spool / ".state" / f"witness-{order.job}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
    log.line(f"attempt {order.attempt}: fake worker {os.getpid()}")
    status = read_status(path) or JobStatus(
        job=order.job, state="running", submitter="", delta="", restore_to="", priority=5, accepted_at=0.0
    )
    pid = None if "silent" in wishes else os.getpid()
    status = status.with_(attempt=order.attempt, started_at=time.time(), pid=pid, outcome=None)
    write_status(path, status, durable_now=False)
    end = time.monotonic() + float(wishes.get("sleep", 0))
    result = Result(wishes.get("result", "done"))
    while time.monotonic() < end:
        if not os.path.lexists(running):
            result = Result.CANCELLED
            break
        if STOPPED and "deaf" not in wishes:
            result = Result.STOPPED
            break
        time.sleep(0.02)
    if "die" in wishes:
        os.kill(os.getpid(), int(wishes["die"]))
    if "mute" in wishes:
        return 70
    outcome = Outcome(
        attempt=order.attempt, result=result, exit_code=CODES[result], reason=f"fake {result.value}", finished_at=time.time()
    )
    write_status(path, status.with_(outcome=outcome), durable_now=True)
    log.line(f"{result.value}: fake", past_cap=True)
    return CODES[result]


if __name__ == "__main__":
    sys.exit(main())
