"""A real daemon process with the fake worker: taken, run, killed, adopted, drained, reloaded."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.config.edit import SettingsFile, find
from phd_daemon.config.load import load_config
from phd_daemon.spool.locks import lock_is_held
from phd_daemon.spool.requests import set_priority
from phd_daemon.spool.snapshot import daemon_running
from phd_daemon.spool.status_file import JobStatus, read_status

PROGRAM = Path(__file__).resolve().parents[1] / "daemon_process.py"
PATIENCE = 60.0


class Host:
    """A folder with a configuration, a spool, a datastore, and at most one daemon that we expect to be up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = root / "spool"
        self.spool.mkdir(mode=0o700)
        (root / "volumes" / "ds1").mkdir(parents=True)
        self.process: subprocess.Popen[str] | None = None
        self.everything: list[subprocess.Popen[str]] = []
        self.configure()

    def configure(self, queue: str = "workers = 1") -> None:
        new = self.root / "phd.toml.new"
        spool, roots = f'[queue]\nspool = "{self.spool}"\n{queue}\n', f'[datastores]\nroots = ["{self.root}/volumes"]\n'
        new.write_text(f'state_dir = "{self.root}/state"\n{spool}{roots}')
        os.replace(new, self.root / "phd.toml")

    def begin(self, **environment: str) -> subprocess.Popen[str]:
        with (self.root / "daemon.err").open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self.root / "phd.toml")],
                stderr=errors,
                stdout=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **environment},
            )
        self.everything.append(process)
        return process

    def up(self, **environment: str) -> None:
        before = len(self.events("ready"))
        self.process = self.begin(**environment)
        self.until(lambda: len(self.events("ready")) > before)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def text(self, wishes: str, disk: str, more: str = "") -> bytes:
        return f'delta = "/fake/{wishes}"\nrestore_to = "{self.root}/volumes/ds1/{disk}.vmdk"\n{more}'.encode()

    def drop(self, name: str, wishes: str = "sleep=0", *, disk: str = "", more: str = "") -> None:
        new = self.root / "new"
        new.write_bytes(self.text(wishes, disk or name, more))
        os.replace(new, self.spool / f"{name}.job")

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"not in {PATIENCE:.0f} s; the daemon says:\n{self.said()}"
            time.sleep(0.01)

    def until_is(self, *names: str) -> None:
        self.until(lambda: all((self.spool / name).exists() for name in names))

    def until_begun(self, job: str) -> JobStatus:
        """Until its worker has written its pid."""
        self.until(lambda: (status := self.status(job)) is not None and status.pid is not None)
        status = self.status(job)
        assert status is not None
        return status

    def status(self, job: str) -> JobStatus | None:
        return read_status(self.spool / f"{job}.status")

    def log(self, job: str) -> str:
        return (self.spool / f"{job}.log").read_text()

    def said(self) -> str:
        path = self.root / "daemon.err"
        return path.read_text() if path.exists() else ""

    def events(self, event: str, **facts: object) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event and all(line.get(key) == value for key, value in facts.items())]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    for process in host.everything:
        process.kill()
        process.wait()
    for status in (read_status(path) for path in host.spool.glob("*.status")):
        held = status is not None and status.pid and lock_is_held(host.spool / ".state" / f"{status.job}.lock")
        if status is not None and status.pid and held:
            os.kill(status.pid, signal.SIGKILL)


def test_a_dropped_file_becomes_done(host: Host) -> None:
    host.up()
    host.drop("crm")
    host.until_is("crm.done")
    lines = host.log("crm").splitlines()
    assert "accepted from" in lines[0]
    assert "done" in lines[-1]


def test_written_in_place(host: Host) -> None:
    host.up()
    (host.spool / "crm.job").write_bytes(host.text("sleep=0", "crm"))
    host.until_is("crm.done")


def test_a_slow_writer_is_never_taken_half(host: Host) -> None:
    host.up()
    with (host.spool / "crm.job").open("wb", buffering=0) as file:
        text = host.text("sleep=0", "crm")
        file.write(text[:20])
        host.drop("other")
        host.until_is("other.done")
        time.sleep(2.5)  # longer than a file must be still
        assert (host.spool / "crm.job").exists()
        file.write(text[20:])
    host.until_is("crm.done")


def test_dropped_while_the_daemon_was_down(host: Host) -> None:
    host.drop("crm")
    host.up()
    host.until_is("crm.done")


def test_workers_at_once_and_one_destination(host: Host) -> None:
    host.configure("workers = 4")
    host.up()
    for name in ("a", "b", "c"):
        host.drop(name, "sleep=60", disk="same" if name != "c" else "c")
    host.until_is("a.running", "c.running", "b.job")
    host.until(lambda: (status := host.status("b")) is not None and status.why_waiting == "waits for a, same destination")
    (host.spool / "a.running").unlink()
    host.until_is("a.cancelled", "b.running")


def test_cancel_and_retry(host: Host) -> None:
    host.up()
    host.drop("crm", "sleep=60")
    host.until_begun("crm")
    os.rename(host.spool / "crm.running", host.spool / "crm.cancelled")
    host.until(lambda: (status := host.status("crm")) is not None and status.state == "cancelled")
    os.rename(host.spool / "crm.cancelled", host.spool / "crm.job")
    host.until_is("crm.running")
    host.until(lambda: "attempt 2" in host.log("crm"))  # its worker has to begin first


def test_scheduled_by_the_files_time(host: Host) -> None:
    host.up()
    new = host.root / "new"
    new.write_bytes(host.text("sleep=0", "crm"))
    later = time.time() + 3600
    os.utime(new, (later, later))
    os.replace(new, host.spool / "crm.job")
    host.until(lambda: host.status("crm") is not None)
    host.drop("other")
    host.until_is("other.done", "crm.job")
    # touch(1) opens the file, which rings; a bare utime(2) is seen by the next scan, 30 s later at most.
    subprocess.run(["touch", host.spool / "crm.job"], check=True)
    host.until_is("crm.done")


def test_second_daemon_refuses_with_75(host: Host) -> None:
    host.up()
    assert host.process is not None
    second = host.begin()
    assert second.wait(PATIENCE) == 75
    assert f"already running, pid {host.process.pid}" in host.said()
    assert daemon_running(host.spool) == host.process.pid
    assert host.stop() == 0
    assert daemon_running(host.spool) is None


def test_daemon_killed_worker_alive_is_adopted(host: Host) -> None:
    host.up()
    host.drop("crm", "sleep=3")
    first = host.until_begun("crm")
    host.kill()
    host.up()
    host.until(lambda: bool(host.events("adopted", job="crm")))
    host.until_is("crm.done")
    status = host.status("crm")
    assert status is not None
    assert (status.attempt, status.deaths) == (1, 0)
    assert host.log("crm").count("fake worker") == 1
    assert f"fake worker {first.pid}" in host.log("crm")


def test_adopted_without_a_pid_is_followed_by_its_lock(host: Host) -> None:
    host.up()
    host.drop("crm", "sleep=3,silent=1")
    host.until(lambda: (host.spool / "crm.log").exists() and "fake worker" in host.log("crm"))
    host.kill()
    host.up()
    host.until_is("crm.done")
    assert host.log("crm").count("fake worker") == 1


def test_daemon_and_worker_killed_runs_again(host: Host) -> None:
    host.up()
    host.drop("crm", "sleep=1")
    status = host.until_begun("crm")
    host.kill()
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    host.up()
    host.until_is("crm.done")
    assert "attempt 2" in host.log("crm")


def test_cancelled_while_the_daemon_was_down(host: Host) -> None:
    host.up()
    host.drop("crm", "sleep=60")
    host.until_begun("crm")
    host.kill()
    (host.spool / "crm.running").unlink()
    host.until(lambda: (status := host.status("crm")) is not None and status.outcome is not None)
    host.up()
    host.until_is("crm.cancelled")


def test_worker_killed_runs_again_and_fails_after_three(host: Host) -> None:
    host.up(TEST_NO_PAUSE="1")
    host.drop("crm", "die=9")
    host.until_is("crm.failed")
    log = host.log("crm")
    assert log.count("fake worker") == 3
    assert "failed: worker killed by signal 9 (perhaps out of memory)" in log


def test_worker_that_ends_without_a_word(host: Host) -> None:
    host.up(TEST_NO_PAUSE="1")
    host.drop("crm", "mute=1")
    host.until_is("crm.failed")
    assert "ended with exit code 70 and no outcome" in host.log("crm")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_stops_workers_and_their_jobs_wait_again(host: Host, number: signal.Signals) -> None:
    host.configure("workers = 2")
    host.up()
    host.drop("a", "sleep=60")
    host.drop("b", "sleep=60")
    for name in ("a", "b"):
        host.until_begun(name)
    assert host.process is not None
    host.process.send_signal(number)
    assert host.process.wait(PATIENCE) == 0
    assert (host.spool / "a.job").exists()
    assert (host.spool / "b.job").exists()
    status = host.status("a")
    assert status is not None
    assert (status.tries, status.deaths, status.state) == (0, 0, "waiting")


def test_a_deaf_worker_is_killed_and_its_job_waits_uncounted(host: Host) -> None:
    host.up(TEST_SETTINGS="DRAIN_SECONDS=3 KILL_BEFORE_END=2")
    host.drop("crm", "sleep=600,deaf=1")
    host.until_begun("crm")
    assert host.stop() == 0
    assert (host.spool / "crm.job").exists()
    status = host.status("crm")
    assert status is not None
    assert status.deaths == 0


def test_reload(host: Host) -> None:
    host.up()
    assert host.process is not None
    host.drop("a", "sleep=60")
    host.until_is("a.running")
    host.drop("b", "sleep=60")
    host.until(lambda: host.status("b") is not None)
    assert (host.spool / "b.job").exists()
    host.configure("workers = 2")
    host.process.send_signal(signal.SIGHUP)
    host.until_is("b.running")


def test_a_changed_file_is_read_again_by_itself(host: Host) -> None:
    host.up(TEST_SETTINGS="RESCAN_SECONDS=0.2")
    host.drop("a", "sleep=60")
    host.until_is("a.running")
    host.drop("b", "sleep=60")
    host.until(lambda: host.status("b") is not None)
    settings = SettingsFile(load_config(host.root / "phd.toml"))
    settings.change(find("queue.workers"), "2")
    host.until_is("b.running")


def test_another_priority_changes_the_order(host: Host) -> None:
    host.up()
    host.drop("a", "sleep=60")
    host.until_is("a.running")
    host.drop("b", "sleep=60")
    host.until(lambda: host.status("b") is not None)
    host.drop("c", "sleep=60")
    host.until(lambda: host.status("c") is not None)
    set_priority(host.spool, "c", 1)
    host.until(lambda: (status := host.status("c")) is not None and status.priority == 1)
    (host.spool / "a.running").rename(host.spool / "a.cancelled")
    host.until_is("c.running")
    assert (host.spool / "b.job").exists()
    assert "priority 1 from now on" in host.log("c")


def test_invalid_configuration_keeps_the_old_settings(host: Host) -> None:
    host.up()
    assert host.process is not None
    host.configure("workers = 99")
    host.process.send_signal(signal.SIGHUP)
    host.until(lambda: bool(host.events("the configuration is invalid: the old settings stay")))
    host.configure("workers = 2")
    host.process.send_signal(signal.SIGHUP)
    host.until(lambda: bool(host.events("configuration read again", changed=["queue"])))
    host.drop("crm")
    host.until_is("crm.done")


def test_what_needs_a_restart_says_so(host: Host) -> None:
    host.up()
    assert host.process is not None
    text = (host.root / "phd.toml").read_text()
    (host.root / "phd.toml").write_text(text.replace(f"{host.root}/state", f"{host.root}/elsewhere"))
    host.process.send_signal(signal.SIGHUP)
    host.until(lambda: bool(host.events("a changed setting needs a restart", key="state_dir")))


def test_a_changed_file_is_read_without_a_signal(host: Host) -> None:
    host.up(TEST_SETTINGS="RESCAN_SECONDS=0.2")
    host.configure("enabled = false")
    host.until(lambda: bool(host.events("configuration read again", enabled=False)))
    host.drop("crm")
    host.configure("enabled = true")
    host.until_is("crm.done")
    assert host.log("crm").count("accepted") == 1


def test_disabled_queue_takes_nothing(host: Host) -> None:
    host.configure("enabled = false")
    host.drop("crm")
    host.up()
    assert sorted(os.listdir(host.spool)) == [".state", "crm.job"]


def test_spool_made_anew(host: Host) -> None:
    host.up(TEST_SETTINGS="RESCAN_SECONDS=0.2")
    os.rename(host.spool, host.root / "gone")
    host.spool.mkdir(mode=0o700)
    host.until(lambda: bool(host.events("serving the spool folder that is there now")))
    assert host.process is not None
    host.until(lambda: daemon_running(host.spool) == host.process.pid if host.process else False)
    host.drop("crm")
    host.until_is("crm.done")


def test_spool_gone_for_a_while(host: Host) -> None:
    host.up(TEST_SETTINGS="RESCAN_SECONDS=0.2")
    os.rename(host.spool, host.root / "away")
    host.until(lambda: bool(host.events("the spool is not the folder it was")))
    assert host.process is not None
    assert host.process.poll() is None
    os.rename(host.root / "away", host.spool)
    host.drop("crm")
    host.until_is("crm.done")


def test_bad_entries_do_not_stop_it(host: Host) -> None:
    host.up()
    os.mkfifo(host.spool / "fifo.job")
    (host.spool / "folder.job").mkdir()
    (host.spool / "link.job").symlink_to("nowhere")
    with (host.spool / "big.job").open("wb") as file:
        file.truncate(1 << 30)
    (host.root / "outside").write_bytes(b"\xff\x00")
    os.rename(host.root / "outside", host.spool / "binary.job")
    host.drop(os.fsdecode(b"caf\xe9\n"), disk="odd")
    host.drop("good")
    host.until_is("good.done", "big.rejected", "binary.rejected", os.fsdecode(b"caf\xe9\n.done"))
    host.until(lambda: os.path.lexists(host.spool / "link.rejected"))
    assert (host.spool / "fifo.job").exists()
    assert (host.spool / "folder.job").exists()
    assert host.stop() == 0


def test_without_inotify_it_polls(host: Host) -> None:
    host.up(TEST_NO_INOTIFY="1")
    host.drop("crm")
    host.until_is("crm.done")
    assert len(host.events("inotify cannot be had")) == 1


def test_many_at_once(host: Host) -> None:
    host.configure("workers = 4")
    host.up()
    (host.root / "many").mkdir()
    for number in range(200):
        (host.root / "many" / f"n{number}.job").write_bytes(b"not toml at all")
    for number in range(200):
        os.rename(host.root / "many" / f"n{number}.job", host.spool / f"n{number}.job")
    host.until(lambda: len(list(host.spool.glob("*.rejected"))) == 200)


def test_tells_systemd(host: Host) -> None:
    address = str(host.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(PATIENCE)
        host.up(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")
        said: list[str] = []

        def until(word: str) -> None:
            while not said or word not in said[-1]:
                said.append(systemd.recv(4096).decode())

        until("READY=1")
        until("WATCHDOG=1")
        until("WATCHDOG=1")
        assert host.process is not None
        host.process.send_signal(signal.SIGHUP)
        until("RELOADING=1\nMONOTONIC_USEC=")
        until("READY=1")
        host.process.send_signal(signal.SIGTERM)
        until("STOPPING=1")
        host.process.wait(PATIENCE)


def test_a_foreign_spool_is_refused(host: Host) -> None:
    host.spool.chmod(0o777)
    assert host.begin().wait(PATIENCE) == 78
    assert "may be written by others" in host.said()
    host.spool.chmod(0o1777)
    host.up()


def test_purge(host: Host) -> None:
    host.configure('purge_after = "1s"')
    host.up(TEST_SETTINGS="PURGE_SECONDS=0 RESCAN_SECONDS=0.2")
    host.drop("old")
    host.drop("busy", "sleep=600")
    host.until_is("busy.running")
    host.until(lambda: sorted(os.listdir(host.spool)) == [".state", "busy.log", "busy.running", "busy.status"])


def test_the_witness_sees_a_second_worker(tmp_path: Path) -> None:
    """The lock by which the fake worker proves that it is alone does notice company."""
    with (tmp_path / "w").open("w") as first, (tmp_path / "w").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_killed_again_and_again_every_job_runs_once(host: Host) -> None:
    """Workers that live are adopted, whatever the moment; `fake_worker` dies of company, so twice at once would show."""
    host.configure("workers = 4")
    seed = random.Random(2007)
    jobs = [f"n{number}" for number in range(24)]
    for job in jobs:
        host.drop(job, f"sleep={seed.random() * 0.5:.2f}")
    for _ in range(8):
        host.process = host.begin()
        time.sleep(0.3 + seed.random() * 0.5)
        host.kill()
    host.up()
    host.until_is(*(f"{job}.done" for job in jobs))
    assert {job: host.log(job).count("fake worker") for job in jobs} == dict.fromkeys(jobs, 1)
