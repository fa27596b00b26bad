"""Runs qemu-img, which makes overlays, tells what is in them, and copies them into a disk. Nothing else runs it.

An overlay is a qcow2 image whose backing is the server of the session; the header says so, with the time for which QEMU waits for
a server that is started again: without it the first request after a restart of the server fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from restore_core.errors import ProgramMissing, TryAgainLater
from restore_core.naming import printable

RECONNECT_SECONDS = 60
"""Seconds for which QEMU waits for a server that is gone; then it stops the guest (werror=stop, rerror=stop)."""
_PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def require_qemu_img() -> str:
    """Returns the path of qemu-img. Raises `ProgramMissing`."""
    found = shutil.which("qemu-img", path=f"{os.environ.get('PATH', '')}:{_PATHS}")
    if found is None:
        raise ProgramMissing(
            "qemu-img is not installed: it makes the overlay of an instant session, and copies it into the disk",
            remedy="Install it: apt-get install qemu-utils (Debian, Proxmox, Ubuntu), or dnf install qemu-img.",
        )
    return found


def backing_of(socket: str, export: str) -> str:
    """Returns the name of the server's disk as the header of an overlay has it."""
    server = {"type": "unix", "path": socket}
    file = {"driver": "nbd", "server": server, "export": export, "reconnect-delay": RECONNECT_SECONDS}
    return "json:" + json.dumps({"driver": "raw", "file": file})


def create_overlay(path: Path, size: int, backing: str) -> None:
    """Makes an empty overlay of `size` bytes; the backing is not opened. Raises `ProgramMissing`, `TryAgainLater`."""
    _run("making the overlay", path, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", backing, os.fspath(path), str(size))


def overlay_info(path: Path) -> dict[str, Any]:
    """Returns what qemu-img says of an image, also while a guest uses it. Raises `TryAgainLater`."""
    said = _run("looking at the overlay", path, "info", "-U", "-f", "qcow2", "--output=json", os.fspath(path))
    found = json.loads(said)
    return found if isinstance(found, dict) else {}


def commit_overlay(overlay: Path, disk: Path) -> None:
    """Writes what the overlay holds into the disk, whatever backing its header names; the overlay stays as it is.

    May be repeated, also after it was killed. Raises `TryAgainLater` with what qemu-img said.
    """
    _run("copying the overlay into the disk", overlay, "commit", "-q", "-d", _over(overlay, disk))


def same_as_overlay(overlay: Path, disk: Path) -> bool:
    """Whether the disk has exactly the bytes of the overlay over that very disk. Reads what the overlay holds."""
    command = [require_qemu_img(), "compare", "-q", "-U", _over(overlay, disk), _raw(disk)]
    code = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode  # noqa: S603  no shell
    return code == 0


def _raw(disk: Path) -> str:
    return "json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": os.fspath(disk)}})


def _over(overlay: Path, disk: Path) -> str:
    backing = {"driver": "raw", "file": {"driver": "file", "filename": os.fspath(disk)}}
    image = {"driver": "qcow2", "file": {"driver": "file", "filename": os.fspath(overlay)}, "backing": backing}
    return "json:" + json.dumps(image)


def _run(doing: str, path: Path, *arguments: str) -> bytes:
    ran = subprocess.run(  # noqa: S603  a list of arguments, no shell
        [require_qemu_img(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().removeprefix("qemu-img: ") or f"it ended with {ran.returncode}"
        raise TryAgainLater(
            f"{printable(str(path))}: {doing}: qemu-img: {printable(said)}",
            remedy="Mend what it says, then give the command again: it goes on where it ended.",
        )
    return ran.stdout
