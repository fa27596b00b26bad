"""The programs of a drill: what they may not do, and that they do not outlive it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phd_daemon.drill import programs
from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.programs import STARTED_NOT, find_program, ran, started
from phd_daemon.worker import sandbox
from restore_core.errors import Stopped
from tests.lab import go_on

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or ""
"""The system's own: what is confined executes nothing else."""


def tried(folder: Path, command: list[str], limits: ProgramLimits) -> tuple[int | None, str]:
    return ran(command, log=folder / "log", limits=limits, stop=go_on, seconds=60)


def inside(folder: Path, code: str) -> str:
    """What this program says in a confined process that may write in `folder`."""
    if not PYTHON:
        pytest.skip("no python3 in /usr/bin: what a confined program may do was not tried")
    _, said = tried(folder, [PYTHON, "-I", "-S", "-c", code], ProgramLimits(writable=(str(folder),)))
    return said


def need_landlock() -> None:
    if not sandbox.available().landlock:
        pytest.skip("this kernel has no Landlock: what a program of a drill may read and write is not restricted here")


def test_a_confined_program_reads_only_the_system_and_its_folder(tmp_path: Path) -> None:
    need_landlock()
    (tmp_path / "work").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("s")
    code = f"""
for path in ({str(secret)!r}, "/etc/passwd", "/root", "/etc"):
    try: open(path).close() if path.count("/") > 1 else __import__("os").listdir(path); print("READS", path)
    except PermissionError: print("refused")
print(open({str(tmp_path / "work" / "own")!r}, "w+").read() == "")
"""
    assert inside(tmp_path / "work", code).split() == ["refused"] * 4 + ["True"]


def test_a_confined_program_writes_only_in_its_folder(tmp_path: Path) -> None:
    need_landlock()
    (tmp_path / "work").mkdir()
    code = f"""
for path in ({str(tmp_path / "x")!r}, "/tmp/phd-drill-x", "/dev/shm/phd-drill-x"):
    try: open(path, "w"); print("WRITES", path)
    except PermissionError: print("refused")
open("/dev/null", "w").write("x")
"""
    assert inside(tmp_path / "work", code).split() == ["refused"] * 3


def test_a_confined_program_has_no_network_and_no_capability(tmp_path: Path) -> None:
    if not sandbox.available().seccomp:
        pytest.skip("no seccomp here: the network of a program of a drill is not closed")
    code = """
import socket
for family, kind in ((socket.AF_INET, 1), (socket.AF_INET6, 2), (socket.AF_NETLINK, 3), (socket.AF_PACKET, 3), (40, 1)):
    try: socket.socket(family, kind); print("SOCKET", family)
    except PermissionError: print("refused")
socket.socketpair(); socket.socket(socket.AF_UNIX).close()
"""
    assert inside(tmp_path, code).split() == ["refused"] * 5
    if os.path.exists("/proc/self/status") and PYTHON:
        command = [PYTHON, "-I", "-S", "-c", "print(open('/proc/self/status').read())"]
        _, said = tried(tmp_path, command, ProgramLimits(writable=("/proc",)))
        facts = dict(line.replace("%09", " ").split(":", 1) for line in said.splitlines() if ":" in line)
        assert [int(facts[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
        assert facts["NoNewPrivs"].strip() == "1"


def test_a_confined_program_executes_nothing_that_lies_in_its_folder(tmp_path: Path) -> None:
    need_landlock()
    evil = tmp_path / "evil"
    shutil.copy(find_program("true") or "/bin/true", evil)
    code = f"import os\ntry: os.execv({str(evil)!r}, ['x'])\nexcept PermissionError: print('refused')"
    assert inside(tmp_path, code) == "refused"
    assert tried(tmp_path, [str(evil)], ProgramLimits(writable=(str(tmp_path),)))[0] == STARTED_NOT


@pytest.mark.parametrize(
    ("limits", "code", "expected"),
    [
        (ProgramLimits(cpu=1, confined=False), "while True: pass", (-24, -9)),
        (ProgramLimits(memory=300 << 20, confined=False), "bytearray(1 << 30)", (1,)),
    ],
)
def test_limits_end_a_program(tmp_path: Path, limits: ProgramLimits, code: str, expected: tuple[int, ...]) -> None:
    assert tried(tmp_path, [sys.executable, "-I", "-S", "-c", code], limits)[0] in expected


def test_a_file_that_grows_too_large_is_an_error_of_its_write_and_no_signal(tmp_path: Path) -> None:
    code = f"""
try:
    with open({str(tmp_path / "x")!r}, "wb", 0) as file:
        while file.write(bytes(4096)): pass
except OSError as error: print(error.errno)
"""
    limits = ProgramLimits(file_size=1 << 20, confined=False)
    assert tried(tmp_path, [sys.executable, "-I", "-S", "-c", code], limits) == (0, "27")
    assert (tmp_path / "x").stat().st_size == 1 << 20


def test_what_it_may_mount_nobody_else_sees(tmp_path: Path) -> None:
    mount = find_program("mount")
    if mount is None or tried(tmp_path, [mount, "--version"], ProgramLimits(own_mounts=True, confined=False))[0] == STARTED_NOT:
        pytest.skip("no user namespaces here: no partition can be shown as a file")
    (tmp_path / "at").mkdir()
    shell = find_program("sh") or "/bin/sh"
    script = f"mount -t tmpfs none {tmp_path}/at && touch {tmp_path}/at/x && echo mounted && exec sleep 60"
    with started([shell, "-c", script], log=tmp_path / "l", limits=ProgramLimits(own_mounts=True, confined=False)) as program:
        while "mounted" not in program.said():
            assert not program.ended(), program.said()
        assert list((tmp_path / "at").iterdir()) == []
        joined = ProgramLimits(mounts_of=program.pid, writable=(str(tmp_path),))
        code, said = tried(tmp_path, [find_program("ls") or "/bin/ls", str(tmp_path / "at")], joined)
        assert (code, said.splitlines()[-1]) == (0, "x")


def test_a_program_that_cannot_be_begun_is_said_so(tmp_path: Path) -> None:
    code, said = tried(tmp_path, ["/usr/bin/none-such"], ProgramLimits())
    assert (code, "none-such: No such file" in said) == (STARTED_NOT, True)


def test_time_and_a_request_to_stop_end_a_program(tmp_path: Path) -> None:
    sleep = [find_program("sleep") or "/bin/sleep", "60"]
    assert ran(sleep, log=tmp_path / "log", limits=ProgramLimits(), stop=go_on, seconds=0.1)[0] is None

    def stop() -> None:
        raise Stopped("now")

    with pytest.raises(Stopped):
        ran(sleep, log=tmp_path / "log", limits=ProgramLimits(), stop=stop, seconds=60)


def test_a_program_dies_with_the_drill_that_was_killed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from phd_daemon.drill import programs
from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.programs import started
import os
with started(["/bin/sleep", "300"], log=Path({str(tmp_path / "log")!r}), limits=ProgramLimits()) as program:
    while b"sleep" not in open(f"/proc/{{program.pid}}/cmdline", "rb").read().split(bytes(1))[0]: pass
    print(program.pid, flush=True)
    os.kill(os.getpid(), 9)
"""
    root = Path(__file__).parents[3]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True, check=False).stdout
    path = Path(f"/proc/{int(said)}/stat")
    while path.exists() and path.read_text().rpartition(")")[2].split()[0] not in "ZX":
        pass


def test_a_program_that_prints_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_MOST_LOG", 1 << 20)
    command = [find_program("yes") or "/usr/bin/yes"]
    code, said = ran(command, log=tmp_path / "log", limits=ProgramLimits(), stop=go_on, seconds=600)
    assert (code, said[:1]) == (None, "y")


def test_what_is_not_confined_keeps_the_rights_of_its_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has rights that could be lost")
    mine = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    code = "print(open('/proc/self/status').read().partition('CapEff:')[2].split()[0])"
    assert tried(tmp_path, [sys.executable, "-c", code], ProgramLimits(confined=False)) == (0, mine)
