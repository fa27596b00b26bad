"""Real mounts for tests: file systems on loop images, tmpfs, bind and overlay; and programs that see another /etc/fstab."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def mount(place: Path, *options: str) -> None:
    """Mount at `place`, which is made; skips the test where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run([program("mount"), *options, str(place)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"this machine does not mount: {ran.stderr.strip()}")


def unmount(place: Path) -> None:
    subprocess.run([program("umount"), str(place)], check=True, capture_output=True)


def image(path: Path, kind: str = "ext4", *, mib: int = 64) -> Path:
    """A file with a fresh file system of that kind."""
    with path.open("wb") as file:
        file.truncate((320 if kind == "xfs" else mib) << 20)
    options = ["-F", "-m", "0"] if kind == "ext4" else []
    subprocess.run([program(f"mkfs.{kind}"), "-q", *options, str(path)], check=True, capture_output=True)
    return path


def unmount_all_below(folder: Path) -> None:
    """For the end of a test, whatever it left mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    for point in sorted((one for one in points if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run([program("umount"), "-l", point], check=False, capture_output=True)


def with_fstab(fstab: Path, command: Sequence[object]) -> list[str]:
    """The command in a mount namespace of its own, where /etc/fstab is that file."""
    inside = 'mount --bind "$0" /etc/fstab && exec "$@"'
    return [program("unshare"), "--mount", "sh", "-c", inside, str(fstab), *map(str, command)]
