"""The opt-in drop box, mode 3730, with real users: who may drop, what they can do to each other, and what is narrowed."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.config.load import parse_config
from phd_daemon.config.model import Config
from phd_daemon.daemon.ends import enter
from phd_daemon.operations.follow import follow
from phd_daemon.spool import keeper as keeper_module
from phd_daemon.spool.intake import intake_rules
from phd_daemon.spool.keeper import Keeper
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.purge import purge
from phd_daemon.spool.record import JobRecord, read_record
from phd_daemon.spool.requests import drop
from phd_daemon.spool.safety import check_spool
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status, write_status
from phd_daemon.spool.troubles import MOST_ASIDE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a drop box is for several users: only root can become them")

GROUP = 61_234
"""phd-submit, as far as this machine is concerned: a number is enough to write into the box."""


def user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        pytest.skip(f"this system has no user {name}")


def as_user(uid: int, do: Callable[[], object], *, member: bool = True) -> int:
    """Do it as somebody else, in a child; 0, or the errno it ended with."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setgroups([GROUP] if member else [])
            os.setgid(65534)
            os.setuid(uid)
            os.umask(0o077)
            do()
            code = 0
        except OSError as error:
            code = error.errno or 254
        except BaseException:  # noqa: BLE001  a child of a test must not go on as the test
            traceback.print_exc(file=sys.stderr)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Box:
    """A drop box with its keeper: ann and bob are in the group, and ann may submit."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.folder = root, root / "restore"
        self.folder.mkdir()
        os.chown(self.folder, 0, GROUP)
        self.folder.chmod(0o3730)
        (root / "volumes" / "A" / "ann").mkdir(parents=True)
        self.ann, self.bob = user("daemon"), user("bin")
        self.spool = Spool(folder=self.folder)
        check_spool(self.spool)
        self.config = self.settings('submitters = ["daemon"]')
        monkeypatch.setattr(keeper_module, "_still", lambda _watched: 10.0)
        self.keeper = Keeper(self.spool, ended=lambda _: None, tick=lambda: None)

    def settings(self, queue: str, more: str = "") -> Config:
        return parse_config(
            f'[queue]\n{queue}\n[datastores]\nroots = ["{self.root}/volumes"]\n'
            f'[targets.nas1]\nurl = "file:///nas"\n{more}'.encode(),
            self.root / "phd.toml",
        )

    def text(self, disk: str = "A/ann/crm.vmdk", more: str = "") -> bytes:
        return f'delta = "nas1:x/d.phd"\nrestore_to = "{self.root}/volumes/{disk}"\n{more}'.encode()

    def drop(self, uid: int, name: str = "crm", text: bytes | None = None) -> int:
        """As `phd submit` does it."""
        return as_user(uid, lambda: drop(self.spool, text or self.text(), names=[name]))

    def round(self) -> None:
        self.keeper.round(intake_rules(self.config))

    def log(self, name: str = "crm") -> str:
        path = self.spool.log(name)
        return path.read_text() if path.exists() else ""

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if not name.startswith("."))


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    # Not pytest's folder: only its own user may pass through that.
    with tempfile.TemporaryDirectory(prefix="phd-box-") as folder:
        Path(folder).chmod(0o755)
        yield Box(Path(folder), monkeypatch)


def test_a_submitter_drops_and_the_kernel_says_who(box: Box) -> None:
    assert box.drop(box.ann) == 0
    box.round()
    record = read_record(box.spool.record("crm"))
    assert isinstance(record, JobRecord)
    assert (record.submitter, record.uid) == ("daemon", box.ann)
    assert "accepted from daemon" in box.log()


def test_root_only_unless_it_is_said(box: Box) -> None:
    box.config = box.settings("enabled = true")
    assert box.drop(box.ann) == 0
    box.round()
    assert box.names() == ["crm.log", "crm.rejected", "crm.status"]
    assert "belongs to daemon, who may not submit jobs here" in box.log()


def test_a_stranger_is_refused_even_in_the_group_and_stopped_outside_it(box: Box) -> None:
    assert box.drop(box.bob) == 0
    box.round()
    assert "crm.rejected" in box.names()
    assert as_user(box.bob, lambda: drop(box.spool, box.text(), names=["x"]), member=False) == errno.EACCES


def test_a_group_of_submitters(box: Box) -> None:
    import grp

    box.config = box.settings(f'submitters = ["@{grp.getgrgid(pwd.getpwnam("daemon").pw_gid).gr_name}"]')
    box.drop(box.ann, "one")
    box.drop(box.bob, "two")
    box.round()
    assert {"one.job", "two.rejected"} <= set(box.names())


def test_a_file_of_anothers_given_a_second_name_is_nobodys_request(box: Box) -> None:
    """Where the kernel allows it, bob links ann's file into the box: by its owner it would be hers."""
    anns = box.root / "anns"
    anns.write_bytes(box.text())
    os.chown(anns, box.ann, GROUP)
    anns.chmod(0o666)
    if as_user(box.bob, lambda: os.link(anns, box.folder / "crm.job")):
        os.link(anns, box.folder / "crm.job")  # this kernel protects hard links; the door must not rely on it
    box.round()
    assert "crm.rejected" in box.names()
    assert "2 names (hard links)" in box.log()


def test_they_cannot_list_read_remove_or_rename_each_others(box: Box) -> None:
    box.config = box.settings('submitters = ["daemon", "bin"]')
    box.drop(box.ann)
    box.round()
    job = box.folder / "crm.job"
    other = box.folder / "other.job"
    tries: list[Callable[[], object]] = [
        lambda: os.listdir(box.folder),
        lambda: os.unlink(job),
        lambda: os.rename(job, other),
        lambda: os.rename(job, job.with_suffix(".cancelled")),
        lambda: job.write_bytes(b"delta"),
        lambda: os.unlink(box.spool.status("crm")),
        lambda: os.listdir(box.spool.state_folder),
        (box.spool.state_folder / "crm.json").read_bytes,
        lambda: (box.spool.state_folder / "new").write_bytes(b""),
        lambda: os.rename(box.spool.state_folder, box.folder / "state"),
    ]
    assert {as_user(box.bob, do) for do in tries} <= {errno.EACCES, errno.EPERM}
    assert as_user(box.ann, lambda: os.rename(job, job.with_suffix(".held"))) == 0
    box.round()
    assert "crm.held" in box.names()


def test_limits_of_a_submitter(box: Box) -> None:
    box.config = box.settings(
        'submitters = ["daemon", "bin"]', f'[submitters.daemon]\ndestinations = ["{box.root}/volumes/A/ann"]\n'
    )
    box.drop(box.ann, "inside")
    box.drop(box.ann, "outside", box.text("A/crm.vmdk"))
    box.drop(box.ann, "up", box.text("A/ann/../crm.vmdk"))
    box.drop(box.ann, "over", box.text(more="overwrite = true\n"))
    box.drop(box.ann, "ours", box.text(more='overwrite = "ours"\n'))
    box.drop(box.bob, "free", box.text("A/crm.vmdk", more="overwrite = true\n"))
    box.round()
    states = {name for name in box.names() if name.endswith((".job", ".rejected"))}
    assert states == {"inside.job", "outside.rejected", "up.rejected", "over.rejected", "ours.rejected", "free.job"}
    assert "daemon may not replace disks" in box.log("over")


def test_what_ann_changes_after_it_was_accepted_changes_nothing(box: Box) -> None:
    box.drop(box.ann)
    box.round()
    job = box.folder / "crm.job"
    assert as_user(box.ann, lambda: job.write_bytes(box.text("A/bob.vmdk", "overwrite = true\n"))) == 0
    box.round()
    record = read_record(box.spool.record("crm"))
    assert isinstance(record, JobRecord)
    assert record.control is not None
    assert record.control.restore_to == box.root / "volumes/A/ann/crm.vmdk"
    assert "the edit changes nothing" in box.log()


@pytest.mark.parametrize("kind", ["file", "link", "hard link", "fifo"])
def test_a_log_that_bob_has_put_there_before_is_not_written_to(box: Box, kind: str) -> None:
    victim = box.root / "victim"
    victim.write_text("safe\n")
    log = box.spool.log("crm")
    plant: dict[str, Callable[[], object]] = {
        "file": lambda: os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0o666)),
        "link": lambda: log.symlink_to(victim),
        "hard link": lambda: os.link(victim, log),
        "fifo": lambda: os.mkfifo(log, 0o666),
    }
    if as_user(box.bob, plant[kind]):
        plant[kind]()  # where the kernel protects hard links root plays bob
    box.drop(box.ann)
    box.round()
    found = log.lstat()
    assert (stat.S_ISREG(found.st_mode), found.st_uid, found.st_nlink) == (True, 0, 1)
    assert "accepted from daemon" in log.read_text()
    assert victim.read_text() == "safe\n"


def test_an_outcome_that_bob_has_put_there_is_not_believed(box: Box) -> None:
    status = box.spool.status("crm")
    outcome = Outcome(attempt=1, result=Result.DONE, exit_code=0, reason="bob says so", finished_at=1.0)
    lie = JobStatus(
        job="crm",
        state="running",
        submitter="root",
        delta="x",
        restore_to="y",
        priority=0,
        accepted_at=1.0,
        attempt=1,
        outcome=outcome,
    )
    assert as_user(box.bob, lambda: write_status(status, lie, durable_now=False)) == 0
    assert as_user(box.bob, lambda: (box.folder / "crm.running").write_bytes(box.text())) == 0
    box.round()
    assert "crm.done" not in box.names()
    assert "crm.rejected" in box.names()
    assert "bob says so" not in box.log() + status.read_text()


def test_phd_submit_works_for_a_member(box: Box) -> None:
    settings = box.root / "phd.toml"
    settings.write_text(
        f'state_dir = "{box.root}/state"\n[queue]\nspool = "{box.folder}"\nsubmitters = ["daemon"]\n'
        f'[datastores]\nroots = ["{box.root}/volumes"]\n[targets.nas1]\nurl = "file:///nas"\n'
    )
    settings.chmod(0o644)
    delta = "nas1:2007.09.21-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074/00-CRM.vmdk.delta-2007.09.21-0300-070920-1601.phd"

    def submit() -> None:
        code = run(["submit", "--config", str(settings), delta, "--to", f"{box.root}/volumes/A/ann/crm.vmdk", "--name", "crm"])
        if code:
            raise OSError(code, "phd submit")

    assert as_user(box.ann, submit) == 0
    assert (box.folder / "crm.job").stat().st_uid == box.ann
    box.round()
    assert "accepted from daemon" in box.log()


def test_anothers_log_and_status_cannot_be_read_and_ones_own_can(box: Box) -> None:
    """The logs of all were open to whoever knew a name; and a daemon that starts with umask 077 showed nobody his own."""
    box.config = box.settings('submitters = ["daemon", "bin"]')
    box.drop(box.ann)
    os.umask(0o077)
    try:
        box.round()
    finally:
        os.umask(0o022)
    for path in (box.spool.log("crm"), box.spool.status("crm")):
        assert as_user(box.bob, path.read_bytes) == errno.EACCES
        assert as_user(box.ann, path.read_bytes) == 0
        found = path.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o640)
    assert as_user(box.bob, (box.folder / "crm.job").read_bytes) == errno.EACCES


KINDS: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: os.mkdir(path, 0o755),
    "full folder": lambda path: os.makedirs(path / "inside", 0o755),
    "fifo": lambda path: os.mkfifo(path, 0o666),
    "link": lambda path: path.symlink_to("/etc/hostname"),
    "file": lambda path: path.write_bytes(b"bob was here"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["status", "log", "running", "held", "done", "job"])
def test_what_bob_has_put_in_the_way_of_a_job_of_roots_is_put_aside(box: Box, suffix: str, kind: str) -> None:
    """A folder crm.status had root's job accepted again each round, crm.running kept it from its worker, crm.job swallowed it."""
    place = box.folder / f"crm.{suffix}"
    assert as_user(box.bob, lambda: KINDS[kind](place)) == 0
    box.round()
    (box.root / "new").write_bytes(box.text())
    os.rename(box.root / "new", box.folder / "crm.job")
    box.round()
    assert box.keeper.claim("crm") is not None
    assert read_record(box.spool.record("crm")) is not None
    status = read_status(box.spool.status("crm"))
    assert status is not None
    assert (status.submitter, status.attempt) == ("root", 1)
    assert box.log().count("accepted from") == 1
    assert not (box.folder / "crm.running").is_dir()
    assert (box.folder / "crm.running").lstat().st_uid == 0


def test_what_is_put_aside_is_bounded_and_said(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    place = box.folder / "crm.job"
    for _ in range(MOST_ASIDE + 3):
        as_user(box.bob, lambda: os.mkdir(place))
        box.round()
    aside = [name for name in box.names() if ".aside-" in name]
    assert len(aside) == MOST_ASIDE
    assert "crm.job was a folder of user bin" in " ".join(str(record.__dict__) for record in caplog.records)
    assert box.drop(box.ann, "other") == 0
    box.round()
    assert "accepted from daemon" in box.log("other")


def test_what_is_put_aside_goes_with_the_purge(box: Box) -> None:
    as_user(box.bob, lambda: os.mkdir(box.folder / "a.job"))
    as_user(box.bob, lambda: KINDS["full folder"](box.folder / "b.job"))
    as_user(box.bob, lambda: os.mkfifo(box.folder / "c.job"))
    box.round()
    purge(box.spool, older_than=60, now=time.time() + 30, busy=())
    assert len(box.names()) == 3
    purge(box.spool, older_than=60, now=time.time() + 90, busy=())
    assert [name.partition(".aside")[0] for name in box.names()] == ["b.job"]


def test_where_even_the_rename_is_refused_the_job_waits_with_the_reason_and_no_other_waits(box: Box) -> None:
    """A mount point can be neither renamed nor removed."""
    place = box.spool.status("crm")
    as_user(box.bob, lambda: os.mkdir(place))
    ran = subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], capture_output=True, check=False)
    if ran.returncode:
        pytest.skip("this machine does not mount")
    try:
        box.drop(box.ann)
        box.drop(box.ann, "other")
        for _ in range(3):
            box.round()
        assert box.log().count("accepted from") == 1
        assert "can be neither renamed nor removed" in box.log()
        assert box.spool.record("other").exists()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    box.round()
    assert box.spool.record("crm").exists()


def test_a_state_folder_that_bob_made_first_keeps_no_daemon_from_starting(box: Box) -> None:
    box.spool.receipts.rmdir()
    box.spool.state_folder.rmdir()
    assert as_user(box.bob, lambda: os.mkdir(box.spool.state_folder, 0o777)) == 0
    check_spool(box.spool)
    assert box.spool.state_folder.stat().st_uid == 0
    assert box.spool.state_folder.stat().st_mode & 0o777 == 0o700


def test_the_operators_of_a_spool_read_the_logs(box: Box) -> None:
    """A group that may list the spool reads its logs; so does one that the spool's default access list names."""
    box.folder.chmod(0o2750)
    (box.folder / "crm.job").write_bytes(box.text())
    box.round()
    assert as_user(box.bob, box.spool.log("crm").read_bytes) == 0
    assert as_user(box.bob, box.spool.log("crm").read_bytes, member=False) == errno.EACCES


def test_a_job_that_only_calls_itself_one_of_a_rule_is_not_entered(box: Box) -> None:
    """Lines of the ledger decide what replication does next: only the daemon's and root's jobs make some."""
    box.drop(box.ann, "auto-crm")
    box.round()
    record = read_record(box.spool.record("auto-crm"))
    assert isinstance(record, JobRecord)
    enter(record, 1e9, box.root / "restored.log")
    assert not (box.root / "restored.log").exists()
    enter(record.with_(uid=0), 1e9, box.root / "restored.log")
    assert (box.root / "restored.log").exists()


def test_operators_of_a_drop_box_are_named_in_its_default_access_list(box: Box) -> None:
    """As `setfacl -m g:operators:rx,d:g:operators:r` does. The mode then says rwx for the group, which still may not list it."""
    operators = 61_235

    def entries(group: int, named: int, mask: int) -> bytes:
        nobody = 0xFFFFFFFF
        found = ((1, 7, nobody), (4, group, nobody), (8, named, operators), (16, mask, nobody), (32, 0, nobody))
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in found)

    os.setxattr(box.folder, "system.posix_acl_access", entries(3, 5, 7))
    os.setxattr(box.folder, "system.posix_acl_default", entries(0, 4, 4))
    assert box.folder.stat().st_mode & 0o070 == 0o070
    assert box.drop(box.ann) == 0
    box.round()
    for path in (box.spool.log("crm"), box.spool.status("crm")):
        assert as_user(box.ann, path.read_bytes) == 0
        assert as_user(box.bob, path.read_bytes) == errno.EACCES
        child = subprocess.run(["cat", str(path)], user=box.bob, group=operators, extra_groups=[], capture_output=True, check=False)
        assert child.returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_who_is_quick_in_the_moment_between_the_look_and_the_claim_delays_nobody(box: Box, kind: str) -> None:
    """With a loop that makes crm.running again and again bob kept root's job from ever being claimed."""
    (box.folder / "crm.job").write_bytes(box.text())
    box.round()
    place = box.folder / "crm.running"
    assert as_user(box.bob, lambda: KINDS[kind](place)) == 0
    assert box.keeper.claim("crm") is not None
    assert place.lstat().st_uid == 0
    assert place.read_bytes() == box.text()


def test_logs_of_an_earlier_version_are_closed_at_the_start(box: Box) -> None:
    box.drop(box.ann)
    box.round()
    for path in (box.spool.log("crm"), box.spool.status("crm")):
        os.removexattr(path, "system.posix_acl_access")
        path.chmod(0o644)
    box.spool.log("gone").write_text("of a job that is gone\n")
    check_spool(box.spool)
    for path in (box.spool.log("crm"), box.spool.status("crm")):
        assert as_user(box.ann, path.read_bytes) == 0
        assert as_user(box.bob, path.read_bytes) == errno.EACCES
    assert as_user(box.bob, box.spool.log("gone").read_bytes) == errno.EACCES


def test_a_log_that_bob_has_put_there_is_not_shown_as_that_of_a_job(box: Box) -> None:
    log = box.spool.log("crm")
    as_user(box.bob, lambda: log.write_text("done: bob says so\n"))
    (box.folder / "crm.job").write_bytes(box.text())
    with pytest.raises(OSError, match="not written by the daemon"):
        list(follow(box.spool, "crm"))
