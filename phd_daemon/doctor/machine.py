"""The machine: space that is nearly used up, and clocks that do not agree."""

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
"""Seconds between the clock of a file server and ours that are no trouble yet."""


def full(places: Mapping[Path, str]) -> Iterator[Finding]:
    """Each file system that is nearly full, once; `places` are folders with what they are for."""
    seen: dict[int, bool] = {}
    for folder, role in places.items():
        try:
            device, room = os.stat(folder).st_dev, os.statvfs(folder)
        except OSError:
            continue  # a folder that is not there is the business of other checks
        if device in seen:
            continue
        seen[device] = True
        what = nearly_full(room)
        if what:
            yield Finding(
                check="disk-nearly-full",
                what=what,
                where=f"{printable(str(folder))} ({role})",
                why="A restore needs room for the whole disk, and the queue needs some to go on at all.",
                mend="Remove what is not needed ('phd clean' for finished jobs), or give it more room.",
            )


def nearly_full(room: os.statvfs_result) -> str:
    """What is short, in words; empty if nothing is. A file system without inodes of its own counts none."""
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if size and (free < SHARE * size or free < LEAST_BYTES):
        return f"{free >> 20} MiB of {size >> 20} MiB are free"
    if room.f_files and room.f_favail < SHARE * room.f_files:
        return f"{room.f_favail} of {room.f_files} inodes are free"
    return ""


def clocks(folders: Collection[Path]) -> Iterator[Finding]:
    """Each folder whose file system's clock is not this machine's. A file without a name is made there to see it."""
    for folder in folders:
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
            before = time.time()
            file.write(b"?")
            file.flush()
            stamp, after = os.fstat(file.fileno()).st_mtime, time.time()
            yield from apart(folder, stamp, before=before, after=after)


def apart(folder: Path, stamp: float, *, before: float, after: float) -> Iterator[Finding]:
    """A finding if a file that was written between `before` and `after` does not say so."""
    off = stamp - before if stamp < before else max(0.0, stamp - after)
    if abs(off) > CLOCKS_AGREE:
        yield Finding(
            check="clock-wrong",
            what=f"its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's",
            where=printable(str(folder)),
            why="A job's file says by its time when it may start, and backups are chosen by their age.",
            mend="Let both machines keep time by NTP; timedatectl shows whether this one does.",
        )


def backwards(newest: float, now: float, where: str) -> Iterable[Finding]:
    """A finding if something that we wrote ourselves lies in the future: this machine's clock was set back."""
    if newest > now + CLOCKS_AGREE:
        yield Finding(
            check="clock-wrong",
            what=f"the clock of this machine is behind what it wrote itself ({newest - now:.0f} s)",
            where=where,
            why="The newest backup may look as if it lay in the future, and delayed copies would be chosen wrongly.",
            mend="Set the clock (timedatectl), and look at why it went back.",
        )
