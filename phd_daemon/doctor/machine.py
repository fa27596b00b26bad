"""The machine: file systems that are nearly full, and clocks that do not agree."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from phd_daemon.doctor.finding import Finding
from restore_core.naming import printable

SHARE = 0.05
LEAST_BYTES = 64 << 20
CLOCKS_AGREE = 5.0
"""A difference of so many seconds between the clock of a file server and ours is no finding."""


def full(places: Mapping[Path, str]) -> Iterator[Finding]:
    """Yields each file system that is nearly full, once. `places` are folders, with what they are for."""
    seen: dict[int, bool] = {}
    for folder, role in places.items():
        try:
            device, room = os.stat(folder).st_dev, os.statvfs(folder)
        except OSError:
            continue  # other checks report a folder that is not there
        if device in seen:
            continue
        seen[device] = True
        what = nearly_full(room)
        if what:
            yield Finding(
                check="disk-nearly-full",
                what=what,
                where=f"{printable(str(folder))} ({role})",
                why="A restore needs space for the whole disk, and the queue needs some to work at all.",
                mend="Remove what is not needed ('phd clean' for finished jobs), or add space.",
            )


def nearly_full(room: os.statvfs_result) -> str:
    """Returns what is short, in words; empty if nothing is. Some file systems have no count of inodes."""
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if size and (free < SHARE * size or free < LEAST_BYTES):
        return f"{free >> 20} MiB of {size >> 20} MiB are free"
    if room.f_files and room.f_favail < SHARE * room.f_files:
        return f"{room.f_favail} of {room.f_files} inodes are free"
    return ""


def clocks(folders: Collection[Path]) -> Iterator[Finding]:
    """Yields each folder whose file system has another clock than this machine. Writes a file without a name there to see it."""
    for folder in folders:
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
            before = time.time()
            file.write(b"?")
            file.flush()
            stamp, after = os.fstat(file.fileno()).st_mtime, time.time()
            yield from apart(folder, stamp, before=before, after=after)


def apart(folder: Path, stamp: float, *, before: float, after: float) -> Iterator[Finding]:
    """Yields a finding if a file that was written between `before` and `after` has another time."""
    off = stamp - before if stamp < before else max(0.0, stamp - after)
    if abs(off) > CLOCKS_AGREE:
        yield Finding(
            check="clock-wrong",
            what=f"its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's",
            where=printable(str(folder)),
            why="The time of a job's file says when it may start, and backups are chosen by their age.",
            mend="Set the clocks of both machines by NTP; timedatectl shows whether this one is.",
        )


def backwards(newest: float, now: float, where: str) -> Iterable[Finding]:
    """Yields a finding if something that we wrote is dated in the future: then this machine's clock was set back."""
    if newest > now + CLOCKS_AGREE:
        yield Finding(
            check="clock-wrong",
            what=f"the clock of this machine is {newest - now:.0f} s behind its own newest entry",
            where=where,
            why="The newest backup may seem to be in the future, and delayed copies would be chosen wrongly.",
            mend="Set the clock (timedatectl), and find out why it went back.",
        )
