"""Datastores that are not mounted, or are another disk, with a real daemon, real workers and real mounts.

Before, the restore went into the folder below the mount point and filled the file system above it, and nobody was told.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phd_daemon.config.load import load_config
from phd_daemon.daemon.starts import work_order
from phd_daemon.replication.one_pass import dry_run
from phd_daemon.spool import intake, transitions
from phd_daemon.spool.intake import intake_rules
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.reconcile import Examine
from phd_daemon.spool.status_file import Result
from phd_daemon.worker.attempt import StopSign, attempt
from tests.host import PHD, Host
from tests.mounting import image, mount, program, unmount, unmount_all_below, with_fstab
from tests.phd_daemon.small_backup import SmallBackup, small_backup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
MARKER = ".phd-datastore"
PATIENCE = 40.0


class Site(Host):
    """A host with one small backup. Its datastore is a mount point, on which nothing is mounted yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.backed_up: SmallBackup = small_backup(self.store)
        self.fstab = folder / "fstab"
        self.fstab.write_text("")
        self.process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A daemon in a mount namespace of its own, where our fstab is /etc/fstab."""
        with (self.folder / "daemon.said").open("ab") as said:
            command = with_fstab(self.fstab, [PHD, "daemon", "--config", self.config])
            self.process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(90)

    def inside(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run something where the daemon runs."""
        assert self.process is not None
        enter = [program("nsenter"), "--mount", f"--target={self.process.pid}", "--", *map(str, command)]
        return subprocess.run(enter, capture_output=True, text=True, check=check)

    def ring(self) -> None:
        """SIGHUP: a round over the queue now, and not within 30 s."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def ask(self, name: str) -> None:
        self.drop(name, delta=str(self.backed_up.delta), restore_to=str(self.datastore / "vm" / f"{name}.vmdk"))

    def waits(self, name: str) -> str:
        """Wait until the job is known to wait for its datastore; why. It is still waiting, and has used up nothing."""
        status = self.spool / f"{name}.status"

        def why() -> str:
            data = json.loads(status.read_text()) if status.exists() else {}
            return str(data.get("why_waiting", ""))

        until(lambda: "waits for its datastore" in why(), lambda: f"{sorted(p.name for p in self.spool.iterdir())} {self.said()}")
        data = json.loads(status.read_text())
        assert (data["attempt"], data["tries"], data["next_try"]) == (0, 0, None)
        assert (self.spool / f"{name}.job").exists()
        assert "waits for its datastore" in (self.spool / f"{name}.log").read_text()
        return why()

    def said(self) -> str:
        return (self.folder / "daemon.said").read_text()

    def is_restored(self, name: str) -> bool:
        return (self.datastore / "vm" / f"{name}-flat.vmdk").read_bytes() == self.backed_up.content

    def datastores(self, *words: str, expected: int = 0) -> str:
        ran = subprocess.run([PHD, "datastores", *words, "--config", self.config], capture_output=True, text=True, check=False)
        assert ran.returncode == expected, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def listed(self, expected: int) -> dict[str, object]:
        (found,) = json.loads(self.datastores("--json", expected=expected))
        return dict(found)


def until(true: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.05)


def untouched(folder: Path, before: os.stat_result) -> bool:
    """Nothing lies in the folder, and nothing was made in it and removed again."""
    now = folder.stat()
    return list(folder.iterdir()) == [] and (now.st_mtime_ns, now.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    unmount_all_below(tmp_path)


def test_unmounted_between_two_jobs(site: Site) -> None:
    empty = site.datastore.stat()
    disk = str(image(site.folder / "disk"))
    mount(site.datastore, "-o", "loop", disk)
    with site.daemon() as process:
        site.process = process
        site.ask("first")
        site.ends("first", "done")
        assert (site.datastore / MARKER).exists()
        assert site.listed(0)["known_by"] == "marker and file system"
        unmount(site.datastore)
        site.ask("second")
        why = site.waits("second")
        assert "phd datastores accept ISCSI02" in why
        assert "waits for its datastore" in site.phd("queue")
        assert site.listed(73)["state"] == "other"
        found = {one["check"]: one for one in json.loads(site.phd("doctor", "--json", expected=1))["findings"]}
        assert "Waiting for it: second." in found["datastore-changed"]["why"]
        assert untouched(site.datastore, empty)
        mount(site.datastore, "-o", "loop", disk)
        site.ring()
        site.ends("second", "done")
        assert site.is_restored("second")
        assert (site.spool / "second.log").read_text().count("waits for its datastore") == 1


def test_another_file_system_in_its_place_until_a_person_accepts_it(site: Site) -> None:
    mount(site.datastore, "-o", "loop", str(image(site.folder / "one")))
    with site.daemon() as process:
        site.process = process
        site.ask("first")
        site.ends("first", "done")
        unmount(site.datastore)
        mount(site.datastore, "-o", "loop", str(image(site.folder / "two")))
        before = sorted(site.datastore.iterdir())
        site.ask("second")
        site.waits("second")
        assert sorted(site.datastore.iterdir()) == before
        site.datastores("accept", "ISCSI02")
        site.ring()
        site.ends("second", "done")
        assert site.listed(0)["known_by"] == "marker and file system"


def test_copied_to_a_new_disk_and_the_marker_removed(site: Site) -> None:
    mount(site.datastore, "-o", "loop", str(image(site.folder / "one")))
    with site.daemon() as process:
        site.process = process
        site.ask("first")
        site.ends("first", "done")
        new = site.folder / "new"
        mount(new, "-o", "loop", str(image(site.folder / "two")))
        subprocess.run(["cp", "-a", f"{site.datastore}/.", str(new)], check=True)
        unmount(new)
        unmount(site.datastore)
        mount(site.datastore, "-o", "loop", str(site.folder / "two"))
        assert site.listed(0)["known_by"] == "marker"
        site.ask("second")
        site.ends("second", "done")
        (site.datastore / MARKER).unlink()
        assert site.listed(0)["known_by"] == "file system"
        site.ask("third")
        site.ends("third", "done")
        assert site.listed(0)["known_by"] == "marker and file system"


def test_named_in_fstab_and_not_mounted_the_first_time(site: Site) -> None:
    """There is nothing to compare with yet. Somebody mounts it where the daemon is, and the job goes on."""
    disk = image(site.folder / "disk")
    site.fstab.write_text(f"{disk} {site.datastore} ext4 loop,noauto 0 0\n")
    empty = site.datastore.stat()
    with site.serving():
        site.ask("first")
        why = site.waits("first")
        assert "/etc/fstab names it as a mount point" in why
        assert untouched(site.datastore, empty)
        listed = site.inside(PHD, "datastores", "--config", site.config, check=False)
        assert listed.returncode == 73
        assert "not mounted" in listed.stdout
        refused = site.inside(PHD, "datastores", "accept", "ISCSI02", "--config", site.config, check=False)
        assert (refused.returncode, "is not mounted" in refused.stderr) == (73, True)
        assert "datastore-unmounted" in site.inside(PHD, "doctor", "--config", site.config, check=False).stdout
        site.inside(program("mount"), "-o", "loop", disk, site.datastore)
        site.ring()
        log = site.ends("first", "done")
        assert "attempt 1\n" in log
        assert untouched(site.datastore, empty)  # of the folder below the mount, outside of the daemon's namespace


def test_a_foreground_restore_into_an_unmounted_mount_point(site: Site) -> None:
    """Without the daemon's roots nothing is recorded, but fstab is asked."""
    nas = site.folder / "nas"
    nas.mkdir()
    empty = nas.stat()
    site.fstab.write_text(f"nas:/export {nas} nfs noauto 0 0\n")
    command = [PHD, "restore", str(site.backed_up.delta), "--to", nas / "vm" / "CRM.vmdk", "--config", site.config]
    ran = subprocess.run(with_fstab(site.fstab, command), capture_output=True, text=True, check=False)
    assert (ran.returncode, f"{nas} is not mounted" in ran.stderr) == (73, True), ran.stderr
    full = [PHD, "restore", str(site.backed_up.full), "--to", nas / "vm" / "CRM.img", "--config", site.config]
    assert subprocess.run(with_fstab(site.fstab, full), capture_output=True, check=False).returncode == 73
    vmx = [PHD, "vmx", str(site.backed_up.delta), "--to", nas, "--config", site.config]
    assert subprocess.run(with_fstab(site.fstab, vmx), capture_output=True, check=False).returncode == 73
    assert untouched(nas, empty)
    (nas / "a-flat.vmdk").write_bytes(bytes(1 << 20))
    stub = [PHD, "stub", nas / "a-flat.vmdk"]
    assert subprocess.run(with_fstab(site.fstab, stub), capture_output=True, check=False).returncode == 73
    assert [path.name for path in nas.iterdir()] == ["a-flat.vmdk"]


def test_a_foreground_restore_to_a_datastore_that_the_daemon_knows(site: Site) -> None:
    """A person who restores by hand is told the same as a job."""
    mount(site.datastore, "-o", "loop", str(image(site.folder / "one")))
    with site.daemon():
        site.ask("first")
        site.ends("first", "done")
    unmount(site.datastore)
    empty = site.datastore.stat()
    to = ("--to", str(site.datastore / "vm" / "CRM.vmdk"))
    ran = subprocess.run(
        [PHD, "restore", str(site.backed_up.delta), *to, "--config", site.config], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "phd datastores accept ISCSI02" in ran.stderr) == (73, True), ran.stderr
    assert untouched(site.datastore, empty)


def test_the_worker_looks_again(site: Site) -> None:
    """The datastore goes away after the daemon has looked and before the worker opens its destination."""
    mount(site.datastore, "-o", "loop", str(image(site.folder / "one")))
    with site.daemon():
        site.ask("first")
        site.ends("first", "done")
    config, spool = load_config(site.config), Spool(folder=site.spool)
    site.ask("second")
    policy = intake_rules(config)
    found = intake.examine(site.spool / "second.job", validate=policy.validate, submitters=policy.submitters)
    assert isinstance(found, intake.Accepted)
    claim = transitions.claim(spool, intake.accept(spool, "second", None, Examine(), found))
    assert claim is not None
    order = work_order(config, spool, claim)
    unmount(site.datastore)
    empty = site.datastore.stat()
    outcome = attempt(order, StopSign(site.spool, "second"))
    os.close(claim.lock_fd)
    assert (outcome.result, outcome.exit_code) == (Result.TRY_AGAIN, 73), outcome.reason
    assert untouched(site.datastore, empty)


def test_a_pass_makes_no_replica_new_on_an_unmounted_datastore(site: Site) -> None:
    mount(site.datastore, "-o", "loop", str(image(site.folder / "one")))
    with site.daemon():
        site.ask("first")
        site.ends("first", "done")
    rules, ledger = site.folder / "vmdks.auto", site.folder / "restored.log"
    rules.write_text(f"RESTORE:CRM|*|00|CRM.vmdk|{site.datastore}/vm/replica.vmdk\n")
    text = site.config.read_text()
    site.config.write_text(text.replace("enabled = false", f'enabled = true\nrules = "{rules}"\nledger = "{ledger}"'))
    config = load_config(site.config)
    assert dry_run(config).refused == {}
    unmount(site.datastore)
    refused = dry_run(config).refused
    assert list(refused) == [1]
    assert "its datastore is not there" in refused[1]
    assert "accept ISCSI02" in refused[1]
    assert site.phd("replicate", expected=0) is not None
    assert not list(site.spool.glob("*.job"))


def test_read_only(site: Site) -> None:
    """The file system alone is recorded, the job fails as it did; mounted writable, the marker comes with the next job."""
    disk = str(image(site.folder / "one"))
    mount(site.datastore, "-o", "loop,ro", disk)
    with site.daemon():
        site.ask("first")
        assert "mounted read-only" in site.ends("first", "failed")
        assert site.listed(0)["known_by"] == "file system"
        unmount(site.datastore)
        mount(site.datastore, "-o", "loop", disk)
        site.ask("second")
        site.ends("second", "done")
        assert site.listed(0)["known_by"] == "marker and file system"


def test_the_cache_may_be_deleted_and_the_daemon_started_anew(site: Site) -> None:
    """What is known of the datastores is no cache."""
    mount(site.datastore, "-o", "loop", str(image(site.folder / "one")))
    with site.daemon():
        site.ask("first")
        site.ends("first", "done")
    shutil.rmtree(site.folder / "state")
    (site.folder / "state").mkdir()
    unmount(site.datastore)
    empty = site.datastore.stat()
    with site.daemon():
        site.ask("second")
        site.waits("second")
        assert untouched(site.datastore, empty)


def test_names_that_mean_nothing_or_two_things(site: Site) -> None:
    assert "there are: ISCSI02" in site.datastores("accept", "nobody", expected=2)
    assert site.listed(0)["state"] == "new"
    site.datastores("accept", "ISCSI02")
    assert site.listed(0)["state"] == "known"
    site.datastores("forget", str(site.datastore))
    assert site.listed(0)["state"] == "new"
