"""Real file systems of a certain size, for a while: tmpfs, ext4 on a loop image, and a thin one that promises more than it has."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.proof.scoreboard import NotRun

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def program(name: str) -> str:
    """Its path; `NotRun` if it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise NotRun(f"{name} is not installed")
    return found


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Mount something; `NotRun` where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run([program("mount"), *options, str(place)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise NotRun(f"this machine does not mount: {ran.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run([program("umount"), "-l", str(place)], check=False, capture_output=True)


@contextlib.contextmanager
def tmpfs(place: Path, size: int, *, inodes: int = 0) -> Iterator[Path]:
    """`size` bytes of memory."""
    more = f",nr_inodes={inodes}" if inodes else ""
    with mounted(place, "-t", "tmpfs", "-o", f"mode=0700,size={size}{more}", "none") as there:
        yield there


def make_ext4(image: Path, size: int, *options: str) -> None:
    """A small ext4 in a file, without a reserve."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([program("mkfs.ext4"), "-q", "-F", "-m", "0", *options, str(image)], check=True, capture_output=True)


@contextlib.contextmanager
def ext4(place: Path, size: int) -> Iterator[Path]:
    """An image of `size` bytes beside `place`, mounted."""
    image = place.parent.parent / f"{place.name}.ext4"
    image.parent.mkdir(parents=True, exist_ok=True)
    make_ext4(image, size, "-O", "^has_journal")
    with mounted(place, "-o", "loop", str(image)) as there:
        there.chmod(0o700)
        yield there
    image.unlink()


def free(place: Path) -> int:
    """Free bytes."""
    facts = os.statvfs(place)
    return facts.f_bfree * facts.f_frsize


def fill(place: Path, *, leave: int = 0) -> Path:
    """Take all the room but `leave` bytes; the file that holds it."""
    ballast = place / ".ballast"
    with ballast.open("ab", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while free(place) - leave >= piece:
                    file.write(bytes(piece))
        with contextlib.suppress(OSError):
            while not leave:
                file.write(bytes(512))
    return ballast
