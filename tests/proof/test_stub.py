"""What takes minutes to show of `sh DELTA`: many flipped bits, and a disk beyond 4 GiB in a shell that counts in 32 bits."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from restore_core.archive.header import HEAD_BYTES
from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from tests.lab import BLOCK, NIGHT, UUID, Lab
from tests.restore_core.archive.stub_shell import SHELLS, full_path, sh, small_case, two_backups
from tests.restore_core.archive.test_stub_faults import flip, script_range

FLIPS = 500


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def flips(lab: Lab, path: Path, delta: Path, new: bytes, places: list[int]) -> list[int]:
    """Flip each bit in turn; those that neither the restore nor `verify` minded and that are not in the script's text."""
    out, script, silent = lab.folder / "out", script_range(delta) if path == delta else range(0), []
    for bit in places:
        out.mkdir()
        flip(path, bit)
        ran = sh(delta, "restore", "--to", out / "x.vmdk")
        if ran.returncode == 0:
            assert (out / "x-flat.vmdk").read_bytes() == new, bit
        else:
            assert os.listdir(out) == [], bit
        if bit // 8 not in script and (ran.returncode == 0 or sh(delta, "verify").returncode == 0):
            silent.append(bit)
        flip(path, bit)
        shutil.rmtree(out)
    return silent


@pytest.mark.parametrize("which", ["full", "delta", "script"])
def test_flips(lab: Lab, which: str) -> None:
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    path = full_path(lab, made) if which == "full" else delta
    size, dice = path.stat().st_size * 8, random.Random(5)
    start, end = (0, size) if which != "script" else (script_range(delta).start * 8, HEAD_BYTES * 8)
    places = [dice.randrange(start, end) for _ in range(FLIPS)]
    if which == "delta":
        places += [dice.randrange(HEAD_BYTES * 8, size) for _ in range(FLIPS)]
    assert flips(lab, path, delta, new, places) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_over_4_gib(lab: Lab, shell: str) -> None:
    """5 GiB and some, nearly all of it a hole, with a changed block at the very end."""
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    lab.disk.touch()
    os.truncate(lab.disk, (5 << 30) + 512)
    archives = []
    for minute, word in enumerate((b"monday", b"tuesday")):
        with lab.disk.open("r+b") as disk:
            disk.seek((5 << 30) - BLOCK)
            disk.write(word * 90_000)
            disk.truncate((5 << 30) + 512)
        stamp = NIGHT.replace(minute=minute)
        options = BackupOptions(asked=Asked(vm="CRM", uuid=UUID), full=not minute, at=stamp, scratch=lab.folder)
        archives += backup(lab.disk, lab.targets["t"], options, BackupReporter())
    ran = sh(lab.path(archives[1].delta), "restore", "--to", lab.folder / "x.img", "--thin", shell=SHELLS[shell])
    assert ran.returncode == 0, ran.stderr
    assert subprocess.run(["cmp", lab.folder / "x.img", lab.disk], check=False).returncode == 0
