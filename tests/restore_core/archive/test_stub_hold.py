"""`sh DELTA` and its neighbours: a second script, phd, somebody who removes files or writes the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.restore_core.archive.stub_shell import SHELLS, SMALL_TOOLS, full_path, path_of, sh, small_case, two_backups
from tests.restore_core.archive.test_stub_faults import wait_for

OLD, NEW = small_case()
BUSY = "another script is at work"


@dataclass(frozen=True)
class Place:
    """A Delta, a folder for disks, and a `curl` that waits for the file `go` before it ends."""

    delta: Path
    out: Path
    bin: Path

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": str(self.bin)}

    def command(self, name: str, *options: str, shell: str = "dash") -> list[str]:
        words = SHELLS[shell]
        found = shutil.which(words[0])
        if found is None:
            pytest.skip(f"{words[0]} is not installed")
        return [found, *words[1:], str(self.delta), "restore", "--to", str(self.out / name), *options]

    def restore(self, name: str, *options: str, shell: str = "dash") -> subprocess.CompletedProcess[str]:
        """Run to its end, with the Full that lies beside the Delta."""
        command = self.command(name, *options, shell=shell)
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)

    @contextlib.contextmanager
    def slow(self, name: str, *options: str, shell: str = "dash") -> Iterator[subprocess.Popen[str]]:
        """A restore that is writing its part file, and stands still there until `go` is there."""
        command = [*self.command(name, *options, shell=shell), "--full", "http://slow.example/full"]
        (self.bin / "started").unlink(missing_ok=True)
        with subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                wait_for((self.bin / "started").exists)
                yield process
            finally:
                self.go()

    def go(self) -> None:
        (self.bin / "go").touch()

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Let it go on; how it ended, and what it said."""
        self.go()
        said = process.communicate(timeout=30)[1]
        return process.returncode, said

    def names(self) -> list[str]:
        return sorted(os.listdir(self.out))


@pytest.fixture
def place(lab: Lab) -> Place:
    made, delta = two_backups(lab, OLD, NEW)
    out, tools = lab.folder / "out", lab.folder / "bin"
    out.mkdir()
    path_of(tools, *SMALL_TOOLS, "sleep", "stty", "stat", "flock")
    wait = f"i=0; while [ $i -lt 400 ] && [ ! -e {tools}/go ]; do i=$((i + 1)); sleep 0.05; done"
    (tools / "curl").write_text(f"#!/bin/sh\n: >{tools}/started\ncat {full_path(lab, made)}\n{wait}\n")
    (tools / "curl").chmod(0o755)
    return Place(delta, out, tools)


@contextlib.contextmanager
def held(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Another program has this lock."""
    if not path.is_dir():
        path.touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    try:
        with held(path):
            return False
    except BlockingIOError:
        return True


@pytest.mark.parametrize("shell", SHELLS)
def test_a_second_script_is_refused_and_the_first_is_exact(place: Place, shell: str) -> None:
    """Broken before: with the part file removed, the second began, and the first published the second's half by name."""
    with place.slow("x.vmdk", shell=shell) as first:
        assert place.names()[:2] == ["x-flat.vmdk.phd-hold", "x-flat.vmdk.phd-part"]
        assert (place.out / "x-flat.vmdk.phd-hold").stat().st_mode & 0o7777 == 0o600
        second = place.restore("x.vmdk", "--overwrite", shell=shell)
        assert (second.returncode, BUSY in second.stderr) == (75, True)
        assert place.restore("another.vmdk", shell=shell).returncode == 0
        assert place.finish(first) == (0, "")
    assert (place.out / "x-flat.vmdk").read_bytes() == NEW
    assert place.names() == ["another-flat.vmdk", "another.vmdk", "x-flat.vmdk", "x.vmdk"]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_phd_holds_is_left_alone(place: Place, shell: str) -> None:
    """By the file of the disk, or by the folder when a full file system has no room for that one. Broken before: nobody asked."""
    (place.out / "x.img").write_bytes(b"old")
    with held(place.out / "x.img.phd-hold"):
        ran = place.restore("x.img", "--overwrite", shell=shell)
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
        assert (place.out / "x.img.phd-hold").exists()
    with held(place.out):
        ran = place.restore("x.img", "--overwrite", shell=shell)
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
    assert (place.out / "x.img").read_bytes() == b"old"
    with held(place.out, fcntl.LOCK_SH):  # as one who works on another disk in this folder
        assert place.restore("x.img", "--overwrite", shell=shell).returncode == 0
    assert place.names() == ["x.img"]
    assert not is_held(place.out)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_killed_script_holds_until_its_children_have_ended(place: Place, shell: str) -> None:
    """What moves bytes goes on for a while when `sh` is killed: until it ends, nobody else may begin."""
    hold = place.out / "x.img.phd-hold"
    with place.slow("x.img", shell=shell) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
        assert is_held(hold)
        ran = place.restore("x.img", shell=shell)
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
        place.go()
        wait_for(lambda: not is_held(hold))
    ran = place.restore("x.img", shell=shell)
    assert (ran.returncode, "one was cut short" in ran.stderr) == (73, True)
    (place.out / "x.img.phd-part").unlink()
    assert place.restore("x.img", shell=shell).returncode == 0
    assert (place.out / "x.img").read_bytes() == NEW


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("put", [None, b"half of another restore"], ids=["removed", "replaced"])
def test_a_part_file_that_is_another_one_is_not_published(place: Place, shell: str, put: bytes | None) -> None:
    """Broken before: whatever had the name of the part file was published."""
    part = place.out / "x-flat.vmdk.phd-part"
    with place.slow("x.vmdk", shell=shell) as process:
        part.unlink()
        if put is not None:
            part.write_bytes(put)
        code, said = place.finish(process)
    assert (code, "was removed or replaced" in said) == (75, True)
    assert place.names() == ([] if put is None else [part.name])
    assert put is None or part.read_bytes() == put


def test_a_part_file_and_a_hold_that_were_removed(place: Place) -> None:
    """`rm *.phd-*` while a restore runs, and another one begins: the first publishes nothing, the second's disk is exact."""
    with place.slow("x.img") as first:
        for name in place.names():
            (place.out / name).unlink()
        with place.slow("x.img") as second:
            assert place.finish(first)[0] == 75
            assert place.finish(second) == (0, "")
    assert (place.out / "x.img").read_bytes() == NEW
    assert place.names() == ["x.img"]


@pytest.mark.parametrize("name", ["x.img", "x.vmdk"])
def test_without_flock_nothing_is_replaced(place: Place, name: str) -> None:
    """As with Debian's busybox. Broken before: replaced without knowing who else is at work."""
    (place.bin / "flock").unlink()
    assert place.restore(name).returncode == 0
    before = {found: (place.out / found).stat().st_ino for found in place.names()}
    ran = place.restore(name, "--overwrite")
    assert (ran.returncode, "no flock" in ran.stderr) == (73, True)
    assert {found: (place.out / found).stat().st_ino for found in place.names()} == before


@pytest.mark.parametrize("shell", SHELLS)
def test_a_disk_that_was_written_meanwhile_is_not_replaced(place: Place, shell: str) -> None:
    """Broken before: the writes of a VM that started during the restore went with the old file."""
    assert place.restore("x.vmdk").returncode == 0
    descriptor = (place.out / "x.vmdk").read_bytes()
    with place.slow("x.vmdk", "--overwrite", shell=shell) as process:
        with (place.out / "x-flat.vmdk").open("r+b") as disk:
            disk.write(b"a guest's")
        code, said = place.finish(process)
    assert (code, "opened by somebody" in said) == (75, True)
    assert (place.out / "x-flat.vmdk").read_bytes() == b"a guest's" + NEW[9:]
    assert (place.out / "x.vmdk").read_bytes() == descriptor
    assert place.names() == ["x-flat.vmdk", "x.vmdk"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_disk_that_a_program_has_open_is_not_replaced(place: Place, shell: str) -> None:
    """At the start, and when it was opened later. Broken before: renamed over."""
    (place.out / "x.img").write_bytes(b"old")
    with (place.out / "x.img").open("r+b"):
        ran = place.restore("x.img", "--overwrite", shell=shell)
        assert (ran.returncode, "has it open" in ran.stderr) == (75, True)
    with place.slow("x.img", "--overwrite", shell=shell) as process, (place.out / "x.img").open("r+b"):
        assert place.finish(process)[0] == 75
    assert (place.out / "x.img").read_bytes() == b"old"
    assert place.restore("x.img", "--overwrite", shell=shell).returncode == 0
    assert place.names() == ["x.img"]


@pytest.mark.parametrize("made", ["x-flat.vmdk", "x.vmdk"])
@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_a_name_that_somebody_took_meanwhile(place: Place, made: str, option: tuple[str, ...]) -> None:
    """With `--overwrite`, too: what was not there at the start was never offered for replacement."""
    with place.slow("x.vmdk", *option) as process:
        (place.out / made).write_bytes(b"theirs")
        assert place.finish(process)[0] in (73, 75)
    assert (place.out / made).read_bytes() == b"theirs"
    assert place.names() == [made]


@pytest.mark.parametrize("left", ["x-flat.vmdk.phd-new", "x-flat.vmdk.phd-redo", "x.vmdk.phd-applying"])
def test_what_phd_has_begun_phd_ends(place: Place, left: str) -> None:
    """Broken before: a disk was put over one that phd had half written, and phd's redo file over that."""
    (place.out / left).write_bytes(b"phd's")
    for options in ((), ("--overwrite",)):
        ran = place.restore("x.vmdk", *options)
        assert (ran.returncode, "phd has not finished this disk" in ran.stderr) == (75, True)
    assert place.names() == [left]


def test_descriptors_and_vmx_are_held_too(place: Place) -> None:
    with held(place.out / "x-flat.vmdk.phd-hold"):
        ran = sh(place.delta, "stub", "--to", place.out / "x.vmdk")
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
    assert sh(place.delta, "stub", "--to", place.out / "x.vmdk").returncode == 0
    assert place.names() == ["x.vmdk"]


def neighbour(place: Place, tool: str, word: str, script: str) -> None:
    """Somebody acts just before the script runs this tool on something that is called like this."""
    real = os.path.realpath(place.bin / tool)
    (place.bin / tool).unlink()
    (place.bin / tool).write_text(f'#!/bin/sh\ncase "$*" in *{word}*) {script} ;; esac\nexec {real} "$@"\n')
    (place.bin / tool).chmod(0o755)


MOMENTS = {
    "a write before the old disk is set aside": (
        "mv",
        "x-flat.vmdk.phd-replaced",
        "printf guest | dd of={disk} conv=notrunc status=none",
    ),
    "a disk in place of the one that was set aside": ("ln", "new.tmp*x-flat.vmdk", "printf guest >{disk}"),
    "a disk in place of the one that is to be set aside": (
        "mv",
        "x-flat.vmdk.phd-replaced",
        "mv {disk} {disk}.mine; printf guest >{disk}",
    ),
    "another part file when ours gets its private name": (
        "mv",
        "phd-part*new.tmp",
        "rm {disk}.phd-part; printf half >{disk}.phd-part",
    ),
}


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "ksh93"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_at_the_last_moment(place: Place, moment: str, shell: str) -> None:
    """Between two programs that the script runs: what others made is never lost, nor published as ours."""
    assert place.restore("x.vmdk").returncode == 0
    descriptor, disk = (place.out / "x.vmdk").read_bytes(), place.out / "x-flat.vmdk"
    tool, word, script = MOMENTS[moment]
    neighbour(place, tool, word, script.format(disk=disk))
    ran = place.restore("x.vmdk", "--overwrite", shell=shell)
    assert ran.returncode == 75, ran.stderr
    assert disk.read_bytes()[:5] == (NEW[:5] if "part file" in moment else b"guest")
    assert (place.out / "x.vmdk").read_bytes() == descriptor
    kept = {"x-flat.vmdk.phd-part", "x-flat.vmdk.mine", "x-flat.vmdk.phd-replaced"} & set(place.names())
    assert place.names() == sorted({"x.vmdk", "x-flat.vmdk"} | kept)
    assert kept == set() or len(kept) == 1


def test_a_file_system_without_hard_links(place: Place) -> None:
    """New names are then given by `mv -n`."""
    (place.bin / "ln").unlink()
    (place.bin / "ln").symlink_to("/bin/false")
    for options in ((), ("--overwrite",)):
        assert place.restore("x.vmdk", *options).returncode == 0
        assert (place.out / "x-flat.vmdk").read_bytes() == NEW
        assert place.names() == ["x-flat.vmdk", "x.vmdk"]
    neighbour(place, "mv", "-n*new.tmp*x-flat.vmdk", f"printf guest >{place.out}/x-flat.vmdk")
    assert place.restore("x.vmdk", "--overwrite").returncode == 75
    assert (place.out / "x-flat.vmdk").read_bytes() == b"guest"


def test_what_was_cut_short_while_it_was_replaced(place: Place) -> None:
    """A crash between two renames: the old disk is never taken for rubbish by the next run."""
    (place.out / "x-flat.vmdk.phd-replaced").write_bytes(b"old")
    for options in ((), ("--overwrite",)):
        ran = place.restore("x.vmdk", *options)
        assert (ran.returncode, "else rename it back" in ran.stderr) == (73, True)
    assert place.names() == ["x-flat.vmdk.phd-replaced"]


def test_a_rescue_system_without_proc(place: Place) -> None:
    """What is open cannot be seen there: nothing is replaced, a new disk is made. Broken before: 65, the Full is damaged."""
    inside = 'mount -t tmpfs none /proc && exec "$@"'
    for options, code in (((), 0), (("--overwrite",), 73)):
        command = ["unshare", "--mount", "sh", "-c", inside, "sh", *place.command("x.vmdk", *options)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if "unshare" in ran.stderr or "mount:" in ran.stderr:
            pytest.skip(f"no mount namespaces here: {ran.stderr.strip()[:100]}")
        assert (ran.returncode, "/proc" in ran.stderr) == (code, True)
    assert (place.out / "x-flat.vmdk").read_bytes() == NEW
    assert place.names() == ["x-flat.vmdk", "x.vmdk"]
