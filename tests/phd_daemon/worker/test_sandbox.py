"""What a confined process can still do, tried in processes of their own: the worker, the pass, and each means alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.spool.status_file import Result, read_status
from phd_daemon.worker import sandbox
from phd_daemon.worker.order import WorkOrder
from restore_core.errors import ExitCode
from restore_core.restore.request import RestoreOptions
from tests import servers
from tests.phd_daemon.small_backup import small_backup

ROOT = Path(__file__).resolve().parents[3]

TRIES = r"""
import ctypes, json, os, subprocess, sys, threading
inside, outside = sys.argv[1:3]
def copied():
    fd = os.memfd_create("sh", 0)
    os.write(fd, open("/bin/sh", "rb").read())
    os.execve(fd, ["sh", "-c", "exit 3"], {})
def in_thread(do):
    found = []
    def run():
        try: do()
        except OSError as error: found.append(error)
    thread = threading.Thread(target=run); thread.start(); thread.join()
    if found: raise found[0]
TRIES = {
    "execv": lambda: os.execv("/bin/sh", ["sh", "-c", "exit 3"]),
    "execv in a thread": lambda: in_thread(lambda: os.execv("/bin/sh", ["sh", "-c", "exit 3"])),
    "execveat of a memfd": copied,
    "child": lambda: subprocess.run(["/bin/true"], check=True),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "write outside": lambda: open(outside + "/new", "w"),
    "write what is there": lambda: open(outside + "/old", "a"),
    "truncate outside": lambda: os.truncate(outside + "/old", 0),
    "remove outside": lambda: os.unlink(outside + "/old"),
    "rename outside": lambda: os.rename(outside + "/old", outside + "/other"),
    "take from outside": lambda: os.rename(outside + "/old", inside + "/old"),
    "link to outside": lambda: os.symlink(outside, inside + "/link"),
    "make a device": lambda: os.mknod(inside + "/device", 0o20600, os.makedev(1, 3)),
    "make a FIFO": lambda: os.mkfifo(inside + "/fifo"),
    "signal another": lambda: os.kill(os.getppid(), 0),
    "write inside": lambda: open(inside + "/new", "w").write("x"),
    "make a folder inside": lambda: os.mkdir(inside + "/folder"),
    "move inside": lambda: os.rename(inside + "/new", inside + "/folder/new"),
    "cut inside": lambda: os.truncate(inside + "/folder/new", 0),
    "remove inside": lambda: (os.unlink(inside + "/folder/new"), os.rmdir(inside + "/folder")),
    "read outside": lambda: open(outside + "/old").read(),
    "a socket": lambda: __import__("socket").create_server(("127.0.0.1", 0)).close(),
    "a library": lambda: ctypes.CDLL("libz.so.1"),
    "a signal to itself": lambda: os.kill(os.getpid(), 0),
}
def answers():
    found = {}
    for name, do in TRIES.items():
        try: do(); found[name] = "done"
        except OSError as error: found[name] = os.strerror(error.errno) if error.errno else str(error)
    return found
"""
EXECUTES = {"execv", "execv in a thread", "execveat of a memfd", "child", "spawn"}
ALLOWED = {
    "write inside", "make a folder inside", "move inside", "cut inside", "remove inside", "read outside", "a socket", "a library",
    "a signal to itself",
}  # fmt: skip
EACCES, EPERM, EXDEV = (os.strerror(number) for number in (13, 1, 18))


def tried(tmp_path: Path, before: str = "") -> dict[str, str]:
    """What a process confined to `inside` answers to each try; `before` runs before it is confined."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (outside / "old").write_text("old")
    program = f"""{TRIES}
from phd_daemon.worker import sandbox
{before}
with sandbox.opened([inside]) as folders:
    held = sandbox.confine(folders)
print(json.dumps([held.describe(), answers()]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(inside), str(outside)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said, answers = json.loads(ran.stdout)
    assert said
    return dict(answers)


def needs(*, landlock: int = 0, seccomp: bool = False) -> None:
    have = sandbox.available()
    if have.landlock < landlock or (seccomp and not have.seccomp):
        pytest.skip(f"this kernel has not what is tested: {have.describe()}")


def test_all_of_it(tmp_path: Path) -> None:
    needs(landlock=6, seccomp=True)
    answers = tried(tmp_path)
    assert {name for name, answer in answers.items() if answer == "done"} == ALLOWED
    assert set(answers.values()) <= {"done", EACCES, EPERM, EXDEV}


def test_landlock_alone_denies_execution(tmp_path: Path) -> None:
    needs(landlock=3)
    answers = tried(tmp_path, "sandbox._seccomp = lambda *_: False")
    # A memfd lies on no file system that a rule could name: that way is closed by seccomp only.
    assert {answers[name] for name in EXECUTES - {"execveat of a memfd"}} == {EACCES}
    assert answers["write outside"] == EACCES


def test_seccomp_alone_denies_execution(tmp_path: Path) -> None:
    needs(seccomp=True)
    answers = tried(tmp_path, "sandbox._landlock = lambda *_: 0")
    assert {answers[name] for name in EXECUTES} == {EPERM}
    assert answers["write outside"] == "done"


def test_an_older_landlock_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    needs(landlock=3)
    for abi in (1, 2, 3, 4, 5):
        folder = tmp_path / str(abi)
        folder.mkdir()
        answers = tried(folder, f"sandbox._landlock_abi = lambda: {abi}")
        assert answers["write outside"] == EACCES, abi
        assert answers["write inside"] == "done", abi
        # Before ABI 2 a file cannot be moved to another folder, and before ABI 3 anything can be cut.
        assert answers["move inside"] == ("done" if abi >= 2 else EXDEV), abi
        assert answers["truncate outside"] == (EACCES if abi >= 3 else "done"), abi


def test_without_anything_nothing_is_claimed(tmp_path: Path) -> None:
    nothing_held = "sandbox._seccomp = lambda *_: False\nsandbox._landlock = lambda *_: 0\n"
    only_harmless = "TRIES = {name: TRIES[name] for name in ('child', 'write outside')}"
    assert tried(tmp_path, nothing_held + only_harmless) == {"child": "done", "write outside": "done"}
    nothing = sandbox.Confinement(landlock=0, seccomp=False)
    assert not nothing.execution_denied
    assert nothing.describe().startswith("NOT confined")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (sandbox.Confinement(landlock=7, seccomp=True), "executes nothing (Landlock ABI 7, seccomp); writes only where it must"),
        (
            sandbox.Confinement(landlock=0, seccomp=True),
            "executes nothing (seccomp); this kernel has no Landlock: may write anywhere",
        ),
        (sandbox.Confinement(landlock=3, seccomp=False), "(Landlock ABI 3); writes only where it must; no seccomp here"),
    ],
)
def test_in_one_line(held: sandbox.Confinement, said: str) -> None:
    assert said in held.describe()
    assert "\n" not in held.describe()


def order_in(tmp_path: Path, *, to: str = "volumes/A/new/CRM.vmdk") -> WorkOrder:
    spool = tmp_path / "spool"
    (spool / ".state" / "receipts").mkdir(parents=True)
    (spool / "crm.running").touch()
    (tmp_path / "volumes" / "A").mkdir(parents=True)
    backup = small_backup(tmp_path / "nas")
    return WorkOrder(
        job="crm", attempt=1, spool=str(spool), lock_fd=-1, delta=str(backup.delta), restore_to=str(tmp_path / to), full=None,
        options=RestoreOptions(), roots=(str(tmp_path / "volumes"),),
        mode=0o600, reserved=0, records=str(spool / ".state" / "receipts"), datastores=str(spool / ".state" / ".datastores.json"),
        catalog=str(tmp_path / "state" / "catalog"),
        catalog_max_age=60.0, targets=(backup.target,),
    )  # fmt: skip


def test_the_log_of_a_job_says_what_is_in_force(tmp_path: Path) -> None:
    order = order_in(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "phd_daemon.worker.attempt"], cwd=ROOT, input=order.to_json(), capture_output=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert sandbox.available().describe() in (tmp_path / "spool" / "crm.log").read_text()
    assert (tmp_path / "volumes/A/new/CRM-flat.vmdk").exists()
    assert list((tmp_path / "spool/.state/receipts").iterdir())


@pytest.mark.parametrize(
    "start", [servers.sshd, servers.ssh_password, servers.pyftpd, lambda folder: servers.pyftpd(folder, tls=True)],
    ids=["sftp", "sftp-password", "ftp", "ftps"],
)  # fmt: skip
def test_a_confined_worker_restores_from_servers(
    tmp_path: Path, start: Callable[[Path], AbstractContextManager[servers.Served]]
) -> None:
    order = order_in(tmp_path)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="phd-"))
        try:
            served = stack.enter_context(start(Path(folder)))
        except servers.Missing as missing:
            pytest.skip(str(missing))
        backup = small_backup(served.store)
        order = replace(order, delta=str(backup.delta), targets=(replace(served.spec, name="nas1"),))
        command = [sys.executable, "-m", "phd_daemon.worker.attempt"]
        ran = subprocess.run(command, cwd=ROOT, input=order.to_json(), capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b""), (tmp_path / "spool" / "crm.log").read_text()
    assert (tmp_path / "volumes/A/new/CRM-flat.vmdk").read_bytes() == backup.content


@pytest.mark.parametrize("what", ["os.execv('/bin/sh', ['sh', '-c', 'exit 3'])", "open(PLANTED, 'w')"])
def test_a_worker_that_is_turned_executes_and_plants_nothing(tmp_path: Path, what: str) -> None:
    needs(landlock=1)
    order = replace(order_in(tmp_path), attempt=5)
    program = f"""
import os
from phd_daemon.worker import attempt
PLANTED = {str(tmp_path / "planted")!r}
def turned(request, targets, **_):
    {what}
attempt.attempt.__kwdefaults__["restore"] = turned
raise SystemExit(attempt.main())
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, input=order.to_json(), capture_output=True, check=False)
    assert ran.returncode == ExitCode.DESTINATION, ran
    status = read_status(tmp_path / "spool" / "crm.status")
    assert status is not None
    assert status.outcome is not None
    assert status.outcome.result is Result.FAILED
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("to", ["elsewhere/CRM.vmdk", "volumes/B/CRM.vmdk", "volumes/A/link/CRM.vmdk"])
def test_a_destination_that_cannot_be_is_refused_as_ever(tmp_path: Path, to: str) -> None:
    order = order_in(tmp_path, to=to)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "volumes/A/link").symlink_to(tmp_path / "elsewhere")
    ran = subprocess.run(
        [sys.executable, "-m", "phd_daemon.worker.attempt"], cwd=ROOT, input=order.to_json(), capture_output=True, check=False
    )
    assert ran.returncode == ExitCode.DESTINATION
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_pass_is_confined_too(tmp_path: Path) -> None:
    needs(landlock=1)
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "phd.toml").write_text(f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n')
    program = f"""
import os, sys
from phd_daemon.replication import one_pass
def turned(config, wait):
    import resource
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    for path in (config.state_dir, config.queue.spool):
        (path / "mine").touch()
    try: open({str(tmp_path / "planted")!r}, "w")
    except PermissionError: os.execv("/bin/sh", ["sh", "-c", "exit 3"])
one_pass.run_pass = turned
sys.argv[1:] = [{str(tmp_path / "phd.toml")!r}]
raise SystemExit(one_pass.main())
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == ExitCode.TRY_AGAIN, ran
    assert "ermitted" in ran.stdout or "denied" in ran.stdout
    assert (tmp_path / "state" / "mine").exists()
    assert not (tmp_path / "planted").exists()


def test_where_it_may_only_delete_it_deletes_and_writes_nothing(tmp_path: Path) -> None:
    needs(landlock=3)
    (tmp_path / "s.sock").write_text("as a socket")
    (tmp_path / "other").write_text("other")
    program = """
import os, sys
from phd_daemon.worker import sandbox
with sandbox.opened([sys.argv[1]]) as folders:
    sandbox.confine([], removable=folders)
os.chdir(sys.argv[1])
os.unlink("s.sock")
for act in (lambda: open("new", "w"), lambda: open("other", "a"), lambda: os.mkdir("folder"), lambda: os.rename("other", "new")):
    try: act()
    except OSError as error: print(error.errno)
"""
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["13"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
