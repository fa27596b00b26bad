"""Runs the script in a Delta as a person or a program would: by a shell, with a PATH, from a folder, in any of these."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from restore_core.backup.run import BackupResult
from tests.lab import BLOCK, Lab

STUB = Path(__file__).resolve().parents[3] / "restore_core" / "archive" / "stub.sh"
SHELLS = {
    "dash": ("dash",),
    "bash --posix": ("bash", "--posix"),
    "mksh": ("mksh",),
    "ksh93": ("ksh93",),
    "yash": ("yash",),
    "zsh --emulate sh": ("zsh", "--emulate", "sh"),
    "busybox sh": ("busybox", "sh"),
}
SMALL_TOOLS = (
    *("awk", "cat", "date", "dd", "df", "find", "fold", "gzip", "ln", "ls", "mkdir", "mkfifo", "mv", "od"),
    *("rm", "rmdir", "sed", "sh", "sha256sum", "sync", "tee", "tr"),
)
"""What there is where no faster helper is: neither pigz nor openssl nor fallocate."""


def sh(
    script: Path | str,
    *arguments: str | Path,
    shell: Sequence[str] = ("sh",),
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `SHELL SCRIPT ARGUMENTS` without a terminal. `env` is added to this one."""
    return subprocess.run(
        [*shell, script, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


def path_of(folder: Path, *names: str) -> str:
    """A PATH that holds these programs and nothing else."""
    folder.mkdir(exist_ok=True)
    for name in names:
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(os.path.realpath(found) if name != "busybox" else found)
    return str(folder)


def two_backups(lab: Lab, old: bytes, new: bytes) -> tuple[BackupResult, Path]:
    """A Full of `old` and the Delta of `new`: what the first backup made, and where the Delta lies."""
    full = lab.backup(old, full=True)
    return full, lab.path(lab.backup(new).delta)


def full_path(lab: Lab, made: BackupResult) -> Path:
    """Where the Full of a backup lies."""
    assert made.full is not None
    return lab.path(made.full)


def small_case() -> tuple[bytes, bytes]:
    """A disk and its next day: blocks of every kind, a `zero` run, a grown end, whole sectors."""
    old = b"".join(bytes(BLOCK) if n % 3 == 0 else bytes([n]) * BLOCK for n in range(9)) + b"t" * 512
    new = bytearray(old)
    new[2 * BLOCK : 2 * BLOCK + 9] = b"different"
    new[4 * BLOCK : 5 * BLOCK] = bytes(BLOCK)
    return old, bytes(new) + b"grown" + bytes(507)
