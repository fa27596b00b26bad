"""A folder for disks, a Delta, and a restore by it that stands still until it is told to go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.restore_core.archive.stub_shell import SHELLS, SMALL_TOOLS, full_path, path_of, small_case, two_backups
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


def make_place(lab: Lab) -> Place:
    """A Full of OLD and a Delta of NEW, and the small tools in a folder of their own."""
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
