"""A real daemon: how long from a file renamed into the spool to the first line of its log, and what it costs to wait."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.installed import Installed, newest_delta, two_days
from tests.bench.measure import MIB, ContenderFailed, empty_folder
from tests.bench.report import Row, below

JOBS = 30
IDLE_SECONDS = 30
START_LIMIT = JOB_LIMIT = 60.0


def latency_rows(phd: Installed, work: Path) -> list[Row]:
    """Median and worst of 30 jobs; then CPU and memory of the daemon while nothing happens."""
    delta = _small_archives(phd, work / "small")
    empty_folder(phd.spool)
    phd.spool.chmod(0o700)
    empty_folder(phd.datastore)
    with running_daemon(phd, work) as pid:
        waits = [_one_job(phd, f"bench{number:02d}", delta) for number in range(JOBS)]
        print(f"  {JOBS} jobs; the daemon now waits {IDLE_SECONDS} s", flush=True)
        ticks, memory = _idle(pid)
    return [
        below(f"file in the spool to first line of its log, median of {JOBS}", statistics.median(waits) * 1000, 200, "ms"),
        Row(what="the slowest of them", ours=f"{max(waits) * 1000:.0f} ms"),
        below(f"idle daemon: CPU in {IDLE_SECONDS} s", ticks * 1000 / os.sysconf("SC_CLK_TCK"), 10, "ms"),
        below("idle daemon: memory", memory / 1e6, 60, "MB"),
    ]


def _small_archives(phd: Installed, folder: Path) -> Path:
    monday, tuesday = folder / "monday" / "small.img", folder / "tuesday" / "small.img"
    noise = random.Random("small").randbytes(8 * MIB)
    for path, content in ((monday, noise), (tuesday, noise[: 6 * MIB] + noise[: 2 * MIB])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    two_days(phd, "small", monday, tuesday)
    return newest_delta(phd.target("small"))


@contextlib.contextmanager
def running_daemon(phd: Installed, work: Path) -> Iterator[int]:
    """`phd daemon`, from the moment it says that it is ready; stopped with SIGTERM. Yields its pid."""
    address = f"phd-bench-{os.getpid()}"
    with (work / "daemon.said").open("wb") as said:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind("\0" + address)
            notify.settimeout(START_LIMIT)
            daemon = subprocess.Popen(
                [*phd.command("daemon")], env={**os.environ, "NOTIFY_SOCKET": f"@{address}"}, stdout=said, stderr=said
            )
            _until_ready(notify, daemon, work)
        # The socket is closed now: what the daemon says from here on nobody has to read.
        try:
            yield daemon.pid
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(timeout=100)


def _until_ready(notify: socket.socket, daemon: subprocess.Popen[bytes], work: Path) -> None:
    try:
        while b"READY=1" not in notify.recv(4096):
            pass
    except TimeoutError as error:
        daemon.kill()
        daemon.wait()
        raise ContenderFailed(f"the daemon does not get ready; see {work / 'daemon.said'}") from error


def _one_job(phd: Installed, name: str, delta: Path) -> float:
    """Seconds from the rename to the first whole line; returns when the job is done."""
    log, draft = phd.spool / f"{name}.log", phd.spool / f".{name}.tmp"
    draft.write_text(f'delta = "{delta}"\nrestore_to = "{phd.datastore / name}.vmdk"\n')
    start = time.perf_counter()
    os.rename(draft, phd.spool / f"{name}.job")
    while not (log.exists() and b"\n" in log.read_bytes()):
        _not_for_ever(start, name)
        time.sleep(0.0005)
    seen = time.perf_counter() - start
    while not (phd.spool / f"{name}.done").exists():
        _not_for_ever(start, name)
        if (phd.spool / f"{name}.failed").exists() or (phd.spool / f"{name}.rejected").exists():
            raise ContenderFailed(f"job {name} failed:\n{log.read_text()}")
        time.sleep(0.01)
    return seen


def _not_for_ever(start: float, name: str) -> None:
    if time.perf_counter() - start > JOB_LIMIT:
        raise ContenderFailed(f"job {name} is not done after {JOB_LIMIT:.0f} s")


def _idle(pid: int) -> tuple[int, int]:
    """Clock ticks used in the idle time, and resident bytes at its end."""
    before = _ticks(pid)
    time.sleep(IDLE_SECONDS)
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return _ticks(pid) - before, int(resident.split()[1]) * 1024


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
