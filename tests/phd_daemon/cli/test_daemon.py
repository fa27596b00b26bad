"""`phd daemon` as people start it: in the foreground, detached, twice, and with a bad configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = root / "spool"
        self.spool.mkdir(mode=0o700)
        self.state = root / "state"
        (root / "phd.toml").write_text(
            f'state_dir = "{self.state}"\n[queue]\nspool = "{self.spool}"\n[datastores]\nroots = ["{root}"]\n'
        )

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "phd_daemon.cli.main", "daemon", "--config", "phd.toml", *options]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options), cwd=self.root, env=self.environ(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def environ(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def pid(self) -> int:
        path = self.state / "phd-daemon.pid"
        try:
            return int(path.read_text())
        except (FileNotFoundError, ValueError):  # not there, or not written yet
            return 0

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"not in {PATIENCE:.0f} s"
            time.sleep(0.02)


def alive(pid: int) -> bool:
    """Not gone, and no zombie that nobody has reaped."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    if pid := host.pid():
        os.kill(pid, signal.SIGKILL)


def test_detached(host: Host) -> None:
    started = host.run("--detach")
    assert (started.returncode, started.stderr) == (0, "")
    assert f"its pid is in {host.state}/phd-daemon.pid, its log is {host.state}/daemon.log" in started.stdout
    host.until(lambda: host.pid() > 0)
    pid = host.pid()
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    log = host.state / "daemon.log"
    host.until(lambda: log.exists() and '"ready"' in log.read_text())
    assert log.stat().st_mode & 0o077 == 0

    again = host.run("--detach")
    assert again.returncode == 75
    assert f"already running, pid {pid}" in again.stderr

    os.rename(log, host.state / "old.log")
    os.kill(pid, signal.SIGHUP)
    host.until(lambda: log.exists() and '"configuration read again"' in log.read_text())
    assert next(json.loads(line)["event"] for line in log.read_text().splitlines()) == "log file opened again"
    assert '"changed": "nothing"' in log.read_text()

    # The doorbell was started inside the daemon: an event is heard long before the next scan.
    (host.root / "new").write_bytes(b"not a control file")
    os.rename(host.root / "new", host.spool / "crm.job")
    host.until((host.spool / "crm.rejected").exists)
    assert (host.spool / "crm.log").stat().st_mode & 0o777 == 0o640  # whatever the umask: its group may list the spool

    os.kill(pid, signal.SIGTERM)
    host.until(lambda: host.pid() == 0)
    host.until(lambda: '"stopped"' in log.read_text())
    host.until(lambda: not (host.state / "phd-daemon.pid").exists())
    assert next(json.loads(line)["event"] for line in (host.state / "old.log").read_text().splitlines()) == "ready"


def test_check_reads_the_settings_and_starts_nothing(host: Host) -> None:
    right = host.run("--check")
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout.endswith("phd.toml: no mistake\n")
    with (host.root / "phd.toml").open("a") as file:
        file.write("\n[queue2]\n")
    wrong = host.run("--check")
    assert (wrong.returncode, wrong.stdout) == (78, "")
    assert "queue2" in wrong.stderr
    assert host.pid() == 0


def test_detached_again_after_a_kill(host: Host) -> None:
    assert host.run("--detach").returncode == 0
    host.until(lambda: host.pid() > 0)
    first = host.pid()
    os.kill(first, signal.SIGKILL)
    host.until(lambda: not alive(first))
    assert host.run("--detach").returncode == 0
    host.until(lambda: host.pid() not in (0, first))


def test_the_real_worker_is_started(host: Host) -> None:
    assert host.run("--detach").returncode == 0
    (host.root / "ds").mkdir()
    (host.root / "new").write_text(f'delta = "{host.root}/absent.phd"\nrestore_to = "{host.root}/ds/crm.vmdk"\n')
    os.rename(host.root / "new", host.spool / "crm.job")
    host.until((host.spool / "crm.failed").exists)
    log = (host.spool / "crm.log").read_text()
    assert "accepted from" in log
    assert "attempt 1" in log
    assert "failed: " in log


def test_foreground_speaks_json_and_stops_on_sigterm(host: Host) -> None:
    with subprocess.Popen(host.command(), cwd=host.root, env=host.environ(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        assert (first["event"], first["pid"]) == ("ready", process.pid)
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(PATIENCE) == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()] == ["stopping", "stopped"]


def test_no_spool_is_said_in_the_foreground(host: Host) -> None:
    host.spool.rmdir()
    for options in ((), ("--detach",)):
        refused = host.run(*options)
        assert refused.returncode == 78
        assert "queue.spool" in refused.stderr


def test_bad_configuration(host: Host) -> None:
    (host.root / "phd.toml").write_text("[queue]\nworkers = 9\n")
    assert host.run().returncode == 78
