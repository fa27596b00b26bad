"""`sh DELTA --overwrite`, and a neighbour who acts before each program that it runs: nothing of his is lost.

Each of the small tools that look at names or change them is wrapped; before the n-th of them the neighbour acts, for every n.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.restore_core.archive.stub_shell import SMALL_TOOLS, path_of, small_case, two_backups

OLD, NEW = small_case()
GUEST, WRITTEN = b"guest" + OLD[5:], b"guest" + NEW[5:]
WRAPPED = ("mv", "ln", "ls", "rm", "stat", "find", "flock", "sync")
ACTS = {
    "writes to the disk": "[ -e x-flat.vmdk ] && printf guest | dd of=x-flat.vmdk conv=notrunc status=none",
    "puts another disk there": "mv x-flat.vmdk x.bak && printf theirs >x-flat.vmdk",
    "makes a disk": "set -C; printf theirs >x-flat.vmdk",
    "makes a descriptor": "set -C; printf theirs >x.vmdk",
    "removes the part file": "rm x-flat.vmdk.phd-part",
    "puts another part file there": "[ -e x-flat.vmdk.phd-part ] && rm x-flat.vmdk.phd-part && printf half >x-flat.vmdk.phd-part",
    "removes the hold": "rm x-flat.vmdk.phd-hold",
    "kills them all": "kill -9 0",
}


class Stage:
    """A Delta, a disk to be replaced, wrapped tools."""

    def __init__(self, lab: Lab) -> None:
        self.folder, self.out, self.tools = lab.folder, lab.folder / "out", lab.folder / "bin"
        _, self.delta = two_backups(lab, OLD, NEW)
        path_of(self.tools, *(set(SMALL_TOOLS) - set(WRAPPED)))
        for tool in WRAPPED:
            count = f"echo {tool} >>{self.folder}/count\nn=$(/usr/bin/wc -l <{self.folder}/count)\n"
            act = f'[ "$n" != "$AT" ] || (cd {self.out} && PATH=/usr/bin:/bin sh ../act && : >../acted) 2>/dev/null\n'
            (self.tools / tool).write_text(f'#!/bin/sh\n{count}{act}exec {shutil.which(tool)} "$@"\n')
            (self.tools / tool).chmod(0o755)

    def run(self, at: int, *, there: bool = True) -> int:
        """Restore over the old disk, or to a new one, the neighbour acting before this program; the exit code."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        for name in ("count", "acted"):
            (self.folder / name).unlink(missing_ok=True)
        if there:
            (self.out / "x-flat.vmdk").write_bytes(OLD)
            (self.out / "x.vmdk").write_text('RW 1 FLAT "x-flat.vmdk" 0\n')
        return self.again(at)

    def again(self, at: int) -> int:
        command = [str(shutil.which("dash") or "sh"), str(self.delta), "restore", "--to", str(self.out / "x.vmdk"), "--overwrite"]
        env = {"PATH": str(self.tools), "AT": str(at)}
        return subprocess.run(command, env=env, capture_output=True, check=False, start_new_session=True).returncode

    def count(self) -> int:
        return len((self.folder / "count").read_text().splitlines())

    def acted(self) -> bool:
        return (self.folder / "acted").exists()

    def disk(self) -> bytes | None:
        path = self.out / "x-flat.vmdk"
        return path.read_bytes() if path.exists() else None


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(Lab(tmp_path))


def looks(stage: Stage, nth: int = 1) -> int:
    """Up to which program the script has not yet seen the stamps of the disk (1) or descriptor (2): before that it is no change."""
    programs = (stage.folder / "count").read_text().splitlines()
    return [number for number, name in enumerate(programs, start=1) if name == "stat"][nth - 1]


@pytest.mark.parametrize(
    "act", ["writes to the disk", "puts another disk there", "removes the part file", "puts another part file there"]
)
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_nothing_of_a_neighbour_is_lost(stage: Stage, act: str, there: bool) -> None:
    """What he wrote to the disk is in the disk that has its name in the end, and ours has it only if it is exact."""
    (stage.folder / "act").write_text(ACTS[act])
    assert stage.run(0, there=there) == 0
    seen, steps = looks(stage), stage.count()
    for at in range(1, steps + 1):
        code = stage.run(at, there=there)
        disk, acted = stage.disk(), stage.acted()
        assert code in (0, 73, 75), at
        assert disk in (NEW, WRITTEN, b"theirs") if code == 0 else disk in (OLD if there else None, GUEST, b"theirs"), (at, code)
        if acted and "disk" in act and at > seen:
            assert disk in (GUEST, WRITTEN, b"theirs"), (at, code)
        assert not acted or "part" not in act or code == 75, (at, code)
    assert steps > 30


@pytest.mark.parametrize("act", ["makes a disk", "makes a descriptor"])
def test_a_name_that_was_free_is_never_taken_from_a_neighbour(stage: Stage, act: str) -> None:
    (stage.folder / "act").write_text(ACTS[act])
    assert stage.run(0, there=False) == 0
    for at in range(looks(stage, 1 if "disk" in act else 2) + 1, stage.count() + 1):
        code = stage.run(at, there=False)
        name = "x-flat.vmdk" if "disk" in act else "x.vmdk"
        if stage.acted():
            assert ((stage.out / name).read_bytes(), code) in ((b"theirs", 73), (b"theirs", 75)), at
        else:
            assert (stage.disk(), code) == (NEW, 0), at


def test_without_its_hold_nothing_is_published(stage: Stage) -> None:
    """Until it begins to publish; from then on it is a matter of milliseconds."""
    (stage.folder / "act").write_text(ACTS["removes the hold"])
    codes = set()
    for at in range(1, 40):
        code = stage.run(at)
        codes.add(code)
        assert stage.disk() == (NEW if code == 0 else OLD), at
    assert codes == {0, 75}


def test_killed_at_every_step(stage: Stage) -> None:
    """The old disk or the new one is there, under its name or as `.phd-replaced`, and the next run ends well."""
    (stage.folder / "act").write_text(ACTS["kills them all"])
    assert stage.run(0) == 0
    for at in range(1, stage.count() + 1):
        assert stage.run(at) == -signal.SIGKILL
        whole = [path.read_bytes() for path in stage.out.glob("x-flat.vmdk*") if not path.name.endswith((".phd-part", ".phd-hold"))]
        assert whole, at
        assert all(data in (OLD, NEW) for data in whole), at
        assert stage.disk() in (None, OLD, NEW), at
        tidy(stage.out)
        assert stage.again(0) == 0, at
        assert stage.disk() == NEW
        assert {name for name in os.listdir(stage.out) if not name.startswith(".phd-")} == {"x-flat.vmdk", "x.vmdk"}


def tidy(folder: Path) -> None:
    """What the script tells a person to do."""
    for path in folder.glob("x*.phd-part"):
        path.unlink()
    for path in folder.glob("x*.phd-replaced"):
        if path.with_suffix("").exists():
            path.unlink()
        else:
            path.rename(path.with_suffix(""))
