"""File systems that this machine may be able to mount, one after another: of the kernel on loop images, and FUSE ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.proof.scoreboard import NotRun
from tests.proof.volumes import mounted, program

Kind = Callable[[Path], contextlib.AbstractContextManager[Path]]
_MIB = {"xfs": 320, "btrfs": 128}


def _made(folder: Path, kind: str) -> Path:
    image = folder / f"{kind}.img"
    with image.open("wb") as file:
        file.truncate(_MIB.get(kind, 96) << 20)
    options = {"ext4": ["-q", "-F"], "xfs": ["-q"], "btrfs": ["-q"], "ntfs": ["-q", "-F", "-Q"]}.get(kind, [])
    subprocess.run([program(f"mkfs.{kind}"), *options, str(image)], check=True, capture_output=True)
    return image


def on_loop(kind: str) -> Kind:
    """A file system of the kernel."""

    @contextlib.contextmanager
    def mount(folder: Path) -> Iterator[Path]:
        with mounted(folder / "mounted", "-t", kind, "-o", "loop", str(_made(folder, kind))) as place:
            yield place

    return mount


@contextlib.contextmanager
def _loop(image: Path) -> Iterator[str]:
    ran = subprocess.run([program("losetup"), "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise NotRun(f"no loop device: {ran.stderr.strip()}")
    try:
        yield ran.stdout.strip()
    finally:
        subprocess.run([program("losetup"), "-d", ran.stdout.strip()], check=False, capture_output=True)


@contextlib.contextmanager
def served(place: Path, *command: str) -> Iterator[Path]:
    """A FUSE file system whose program runs in the foreground; `NotRun` if it does not come up."""
    place.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if os.path.ismount(place) or process.poll() is not None:
                break
            time.sleep(0.05)
        if not os.path.ismount(place):
            raise NotRun(f"{Path(command[0]).name} does not mount here")
        yield place
    finally:
        subprocess.run([program("umount"), "-l", str(place)], check=False, capture_output=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def by_fuse(kind: str, name: str, *options: str) -> Kind:
    """A file system on a loop device, by a program that stays in the foreground with `options`."""

    @contextlib.contextmanager
    def mount(folder: Path) -> Iterator[Path]:
        place, command = folder / "mounted", program(name)
        with _loop(_made(folder, kind)) as device, served(place, command, *options, device, str(place)):
            yield place

    return mount


def rclone(mode: str) -> Kind:
    """rclone over a folder, with a cache of this mode."""

    @contextlib.contextmanager
    def mount(folder: Path) -> Iterator[Path]:
        back, place = folder / "back", folder / "mounted"
        back.mkdir(parents=True)
        options = ("--vfs-cache-mode", mode, "--cache-dir", str(folder / "cache"), "--config", "/dev/null")
        with served(place, program("rclone"), "mount", str(back), str(place), *options):
            yield place

    return mount


@contextlib.contextmanager
def bindfs(folder: Path) -> Iterator[Path]:
    """A folder of this machine, through FUSE."""
    back = folder / "back"
    back.mkdir(parents=True)
    with served(folder / "mounted", program("bindfs"), "-f", str(back), str(folder / "mounted")) as place:
        yield place


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    """Memory."""
    with mounted(folder / "mounted", "-t", "tmpfs", "-o", "size=96m", "none") as place:
        yield place


@contextlib.contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    """Two folders of a tmpfs, one over the other: not every overlay can be over another one."""
    with mounted(folder / "under", "-t", "tmpfs", "-o", "size=96m", "none") as under:
        for name in ("lower", "upper", "work"):
            (under / name).mkdir()
        options = f"lowerdir={under}/lower,upperdir={under}/upper,workdir={under}/work"
        with mounted(folder / "mounted", "-t", "overlay", "-o", options, "none") as place:
            yield place


ABLE: dict[str, Kind] = {
    "rclone": rclone("writes"),
    "ext4": on_loop("ext4"),
    "exfat-fuse": by_fuse("exfat", "mount.exfat-fuse", "-d"),
    "tmpfs": tmpfs,
    "xfs": on_loop("xfs"),
    "btrfs": on_loop("btrfs"),
    "overlay": overlay,
    "ntfs-3g": by_fuse("ntfs", "ntfs-3g", "-o", "no_detach"),
    "fuse2fs": by_fuse("ext4", "fuse2fs", "-f", "-o", "rw,fakeroot"),
    "bindfs": bindfs,
    "rclone full": rclone("full"),
    "vfat": on_loop("vfat"),
    "exfat": on_loop("exfat"),
}
"""Where disks and archives can lie. fusefat is left out: it forgets what is written, and hangs for ever (seen on 1 of 2 runs)."""
UNABLE: dict[str, Kind] = {"rclone without a cache": rclone("off")}
"""Where both must be refused before the work."""
