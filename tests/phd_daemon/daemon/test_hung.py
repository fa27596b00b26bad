"""A worker that shows no sign of life is told to stop, then killed; one that works, or whose watcher was away, is not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.daemon.children import GRACE_SECONDS, HungWatch, Worker, Workers
from phd_daemon.spool.layout import Spool

DEADLINE = 900.0
WORKS = "import time\nwhile True: sum(range(10**5)); time.sleep(0.001)"


class Watched:
    def __init__(self, folder: Path, program: str) -> None:
        self.now = 1000.0
        self.spool = Spool(folder=folder)
        self.workers = Workers(["unused"])
        self.child = subprocess.Popen([sys.executable, "-c", program])
        self.worker = Worker(job="crm", attempt=1, pid=self.child.pid, pidfd=os.pidfd_open(self.child.pid), child=self.child)
        self.workers._known["crm"] = self.worker
        self.watch = HungWatch(clock=lambda: self.now)

    def look(self, seconds: float) -> None:
        self.now += seconds
        self.watch.look(self.workers, self.spool, deadline=DEADLINE)

    def ticks(self) -> int:
        fields = Path(f"/proc/{self.child.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])

    def alive(self) -> bool:
        return not select.select([self.worker.pidfd], [], [], 0)[0]


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path, WORKS)
    yield watched
    watched.child.kill()
    watched.child.wait()
    watched.worker.close()


def until_it_worked(watched: Watched) -> None:
    before = watched.ticks()
    while watched.ticks() == before:
        time.sleep(0.01)


def silence(watched: Watched) -> None:
    """Stop it and let it come to rest."""
    os.kill(watched.child.pid, signal.SIGSTOP)
    os.waitpid(watched.child.pid, os.WUNTRACED)


def test_one_that_works_is_left_alone(works: Watched) -> None:
    for _ in range(20):
        until_it_worked(works)
        works.look(100.0)
    assert works.worker.hung == ""


def test_one_that_waits_but_says_so_is_left_alone(works: Watched) -> None:
    silence(works)
    for written in range(20):
        status = works.spool.status("crm")
        status.write_text("{}")
        os.utime(status, (written, written))
        works.look(100.0)
    assert works.worker.hung == ""


def test_a_stopped_one_is_told_to_stop_then_killed(works: Watched) -> None:
    silence(works)
    works.look(0.0)
    for _ in range(8):
        works.look(100.0)
        assert works.worker.hung == ""
    works.look(100.0)
    assert "no sign of life for 900 s" in works.worker.hung
    assert works.worker.stop_asked
    assert works.alive()
    works.look(GRACE_SECONDS)
    assert select.select([works.worker.pidfd], [], [], 30)[0]
    assert works.child.wait() == -signal.SIGKILL


def test_our_own_absence_is_no_silence(works: Watched) -> None:
    silence(works)
    works.look(0.0)
    works.look(1e6)
    assert works.worker.hung == ""
