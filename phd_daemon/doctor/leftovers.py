"""Files that a restore or a backup left behind: older than a day, and no job will come back to them.

*.phd-new  *.phd-part  *.phd-hold  .phd-*.tmp ...    pieces; nothing needs them
*.phd-redo  *.phd-applying  *.phd-replaced          a disk half old and half new: the way to make it whole lies in them
.phd-*.swap                                         a disk that was being replaced, or the one that was to take its place
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import urllib.parse
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.doctor.finding import Finding, Report
from restore_core.disk.hold import HOLD_SUFFIX
from restore_core.disk.vmdk import flat_name_for, is_vmdk_name
from restore_core.naming import printable
from restore_core.targets.base import TargetSpec

DAY = 86400.0
MOST_ENTRIES = 500_000
_PIECE = re.compile(r"(?:.+\.phd-(?:new|part|hold|redo-part)|\.phd-.+\.tmp)\Z", re.DOTALL)
_HALF = re.compile(r"(?P<of>.+)\.phd-(?:redo|applying|replaced)\Z", re.DOTALL)
_SWAP = re.compile(r"\.phd-[0-9a-f]+-[0-9a-f]+\.swap\Z")
_SUFFIX = re.compile(r"\.phd-[a-z-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One file that is a leftover by its name; times in seconds."""

    path: Path
    size: int
    mtime: float


def examine(folders: Iterable[Path], *, owned: Collection[Path], now: float) -> Report:
    """Everything stale below the folders, datastores and the like. `owned` are the disks that jobs are still to write."""
    found: list[Leftover] = []
    unseen = []
    for folder in folders:
        before = len(found)
        if not _collect(folder, found):
            unseen.append(f"all of {printable(str(folder))}: more than {MOST_ENTRIES} files; {len(found) - before} leftovers seen")
    keep = {name for path in owned for name in _names_of(path)}
    stale = sorted((one for one in found if is_stale(one, keep, now)), key=lambda one: one.path)
    return Report(findings=tuple(_finding(one, now) for one in stale), unseen=tuple(unseen))


def is_stale(one: Leftover, owned: Collection[Path], now: float) -> bool:
    """Nobody has written it for a day, and no job will. Pure."""
    return now - one.mtime > DAY and one.path.with_name(_SUFFIX.sub("", one.path.name)) not in owned


def local_folders(specs: Collection[TargetSpec]) -> list[Path]:
    """The folders of targets that are on this machine: backups leave part files there."""
    split = (urllib.parse.urlsplit(spec.url) for spec in specs)
    return [Path(urllib.parse.unquote(url.path)) for url in split if url.scheme == "file"]


def _names_of(destination: Path) -> Iterator[Path]:
    """Disk and descriptor, in the folder as it is really called, so that another path to it is the same."""
    folder = Path(os.path.realpath(destination.parent))
    yield folder / destination.name
    if is_vmdk_name(destination.name):
        yield folder / flat_name_for(destination.name)


def _collect(top: Path, into: list[Leftover]) -> bool:
    """Leftovers below a folder, no link followed and no other file system entered; False when it is too much."""
    waiting, seen = [os.path.realpath(top)], 0
    device = os.stat(waiting[0]).st_dev if os.path.isdir(waiting[0]) else -1
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            seen += 1
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(facts.st_mode):
                if facts.st_dev == device:
                    waiting.append(entry.path)
            elif stat.S_ISREG(facts.st_mode) and any(kind.match(entry.name) for kind in (_PIECE, _HALF, _SWAP)):
                if entry.name.endswith(HOLD_SUFFIX) and facts.st_size:
                    continue  # it is not empty: the record of a replacement that was interrupted, which is told of the disk itself
                into.append(Leftover(path=Path(entry.path), size=facts.st_size, mtime=facts.st_mtime))
        if seen > MOST_ENTRIES:
            return False
    return True


def _finding(one: Leftover, now: float) -> Finding:
    days, where = int((now - one.mtime) // DAY), printable(str(one.path))
    if _SWAP.match(one.path.name):
        return Finding(
            check="replacement-interrupted",
            what=f"the replacement of a disk in this folder was interrupted {days} days ago; this is the old disk or the new one",
            where=where,
            why="If it is the old one, it may hold work that was done since. The *.phd-hold beside it says which one it is.",
            mend="Do not delete it. Type 'phd recover DISK', or restore to that disk again: either ends the replacement first.",
        )
    half = _HALF.match(one.path.name)
    if half:
        return Finding(
            check="refresh-interrupted",
            what=f"a refresh of {printable(half['of'])} was interrupted {days} days ago and never went on",
            where=where,
            why="That disk is half old and half new until the refresh is finished. Without this file it cannot be.",
            mend="Do not delete it. Type 'phd recover DISK' to finish the refresh, or 'phd recover DISK --back' to take it back.",
        )
    return Finding(
        check="partial-file-stale",
        what=f"{one.size} bytes of an unfinished file, not written for {days} days; no job is to go on with it",
        where=where,
        why="It takes room, and nothing needs it.",
        mend=f"rm -- {shlex.quote(where)}" if where == str(one.path) else "Remove it; %HH in its name stands for one byte.",
    )
