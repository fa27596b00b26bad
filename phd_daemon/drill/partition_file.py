"""A partition of a served disk as a file that may be written: QEMU's storage daemon exports an overlay of it by FUSE.

The mount is made in a namespace of the daemon's own: no one but the checkers sees it, no right is needed for it, and it goes with
the daemon. What is written goes into the overlay, at most so many bytes, and is thrown away.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.programs import find_program, ran, started
from restore_core.errors import TryAgainLater
from restore_core.targets.base import Stop

_STEP = 0.02
_READY_SECONDS = 60.0
_OVERLAY = 1 << 30
"""The most bytes that a checker may write."""


class NoPartitionFile(TryAgainLater):
    """This machine cannot export a partition as a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionFile:
    """The file, seen in the mounts of the process `pid`. `folder` is all that a checker may write in."""

    path: Path
    folder: Path
    pid: int


def nbd_node(socket: Path, name: str) -> dict[str, object]:
    """Returns QEMU's block node of a served disk."""
    return {
        "driver": "raw",
        "node-name": name,
        "read-only": True,
        "file": {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}, "export": ""},
    }


def make_overlay(path: Path, size: int, *, log: Path, stop: Stop) -> None:
    """Makes an empty qcow2 image. Raises `TryAgainLater`."""
    tool = find_program("qemu-img")
    if tool is None:
        raise NoPartitionFile("qemu-img is not installed (Debian package qemu-utils)")
    command = [tool, "create", "-q", "-f", "qcow2", str(path), str(size)]
    code, said = ran(command, log=log, limits=ProgramLimits(writable=(str(path.parent),)), stop=stop, seconds=60)
    if code != 0:
        raise TryAgainLater(f"qemu-img cannot make an overlay: {said}")


@contextlib.contextmanager
def partition_file(socket: Path, size: int, start: int, length: int, *, folder: Path, stop: Stop) -> Iterator[PartitionFile]:
    """Exports a range of a served disk of `size` bytes. Raises `NoPartitionFile`, `TryAgainLater`, and what `stop` raises."""
    daemon = find_program("qemu-storage-daemon")
    if daemon is None:
        raise NoPartitionFile("qemu-storage-daemon is not installed (Debian package qemu-system-common)")
    folder.mkdir(mode=0o700)
    overlay, file, ready, log = (folder / name for name in ("overlay.qcow2", "partition", "ready", "export.log"))
    make_overlay(overlay, size, log=log, stop=stop)
    file.touch(mode=0o600)
    shown: dict[str, object] = {"driver": "raw", "node-name": "part", "offset": start, "size": length, "file": "overlay"}
    over: dict[str, object] = {
        "driver": "qcow2",
        "node-name": "overlay",
        "file": {"driver": "file", "filename": str(overlay)},
        "backing": "disk",
    }
    command = [daemon, "--pidfile", str(ready)]
    for node in (nbd_node(socket, "disk"), over, shown):
        command += ["--blockdev", json.dumps(node)]
    export = {"type": "fuse", "id": "part", "node-name": "part", "mountpoint": str(file), "writable": True}
    command += ["--export", json.dumps(export)]
    limits = ProgramLimits(own_mounts=True, confined=False, file_size=_OVERLAY)
    with started(command, log=log, limits=limits, gently=True) as program:
        deadline = time.monotonic() + _READY_SECONDS
        while not ready.exists():
            if program.ended():
                raise NoPartitionFile(f"a partition cannot be shown as a file here (FUSE): {program.said()}")
            if time.monotonic() > deadline:
                raise NoPartitionFile("qemu-storage-daemon does not begin")
            stop()
            time.sleep(_STEP)
        yield PartitionFile(path=file, folder=folder, pid=program.pid)
