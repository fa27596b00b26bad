"""Files that a restore or a backup left behind: older than a day, and no job will continue with them.

*.phd-new  *.phd-part  *.phd-hold  .phd-*.tmp ...    unfinished; nothing needs them
*.phd-redo  *.phd-applying  *.phd-replaced          a disk is half old and half new: these can complete it
*.phd-session  *.phd-overlay*.qcow2                 of an instant session: see `open_sessions`
.phd-*.swap                                         the old or the new disk of a replacement that was interrupted
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from phd_daemon.doctor import open_sessions
from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.doctor.targets import HASTY
from phd_daemon.show.output import size
from restore_core.disk.hold import HOLD_SUFFIX
from restore_core.disk.vmdk import flat_name_for, is_vmdk_name
from restore_core.errors import PhdError
from restore_core.naming import printable
from restore_core.targets.base import ListedFile, ServerLimits, Target, TargetSpec
from restore_core.targets.kinds import KINDS, make_target, removal_of
from restore_core.targets.remote.target import RemoteTarget

DAY = 86400.0
LOOK = replace(HASTY, listing_seconds=20.0)
"""A person waits for the doctor."""

MOST_ENTRIES = 500_000
_PIECE = re.compile(r"(?:.+\.phd-(?:new|part|hold|redo-part)|\.phd-.+\.tmp)\Z", re.DOTALL)
_HALF = re.compile(r"(?P<of>.+)\.phd-(?:redo|applying|replaced)\Z", re.DOTALL)
_SWAP = re.compile(r"\.phd-[0-9a-f]+-[0-9a-f]+\.swap\Z")
_STALE, _WHY = "partial-file-stale", "It takes room, and nothing needs it."
_SUFFIX = re.compile(r"\.phd-[a-z-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One file that is a leftover by its name. `mtime` is in seconds."""

    path: Path
    size: int
    mtime: float


def examine(folders: Iterable[Path], *, owned: Collection[Path], now: float) -> Report:
    """Examines all files below the folders. `owned` are the disks that jobs are still to write."""
    found: list[Leftover] = []
    unseen = []
    for folder in folders:
        before = len(found)
        if not _collect(folder, found):
            unseen.append(f"all of {printable(str(folder))}: more than {MOST_ENTRIES} files; {len(found) - before} leftovers seen")
    keep = {name for path in owned for name in _names_of(path)}
    of_sessions = [one.path for one in found if open_sessions.is_of_session(one.path.name)]
    keep |= open_sessions.disks_in_session(of_sessions)  # finish and discard need what lies beside those
    stale = sorted((one for one in found if is_stale(one, keep, now)), key=lambda one: one.path)
    open_ones = open_sessions.unfinished(of_sessions, now)
    return Report(findings=(*open_ones, *(_finding(one, now) for one in stale)), unseen=tuple(unseen))


def on_servers(
    specs: Collection[TargetSpec], now: float, make: Callable[[TargetSpec, ServerLimits], Target] = make_target
) -> Report:
    """Examines the targets on servers, all at once: a backup that was killed leaves its part file there.

    Give only those that have just answered. One that takes more than `LOOK` allows is said to be seen in part.
    """
    remote = [spec for spec in specs if KINDS[urllib.parse.urlsplit(spec.url).scheme].port is not None]
    if not remote:
        return Report()
    with ThreadPoolExecutor(min(8, len(remote))) as pool:
        return sum(pool.map(lambda spec: _on_server(spec, now, make), remote), Report())


def _on_server(spec: TargetSpec, now: float, make: Callable[[TargetSpec, ServerLimits], Target]) -> Report:
    found: list[Finding] = []
    hidden: list[str] = []
    target = None
    try:
        target = make(spec, LOOK)
        for one in target.unfinished(hidden) if isinstance(target, RemoteTarget) else ():
            if now - one.stat.mtime > DAY:
                found.append(_part_on_server(spec, one, now))  # noqa: PERF401 - one by one: those before an error count
    except PhdError as error:
        return Report(findings=tuple(found), unseen=(f"all leftovers on target {spec.name}: {error.message}",))
    finally:
        if target is not None:
            target.close()
    return Report(findings=tuple(found), unseen=tuple(f"leftovers on target {spec.name}: {what}" for what in hidden))


def _part_on_server(spec: TargetSpec, one: ListedFile, now: float) -> Finding:
    where = printable(one.path)
    age = f"not written for {int((now - one.stat.mtime) // DAY)} days" if one.stat.mtime else "whose age the server does not say"
    return Finding(
        check=_STALE,
        what=f"{size(one.stat.size)} of an unfinished backup, {age}; no backup will continue with it",
        where=f"{spec.name}:{where}",
        why=_WHY,
        mend=removal_of(spec, one.path) if where == one.path else "Delete it there; %HH in its name stands for one byte.",
    )


def is_stale(one: Leftover, owned: Collection[Path], now: float) -> bool:
    """Whether the file was not written for a day, and no job will write it. Pure. No file of an instant session is stale."""
    if open_sessions.is_of_session(one.path.name):
        return False
    return now - one.mtime > DAY and one.path.with_name(_SUFFIX.sub("", one.path.name)) not in owned


def local_folders(specs: Collection[TargetSpec]) -> list[Path]:
    """Returns the folders of the targets on this machine: backups leave part files there."""
    split = (urllib.parse.urlsplit(spec.url) for spec in specs)
    return [Path(urllib.parse.unquote(url.path)) for url in split if url.scheme == "file"]


def _names_of(destination: Path) -> Iterator[Path]:
    """Disk and descriptor in the real path of the folder, so that another path to it compares equal."""
    folder = Path(os.path.realpath(destination.parent))
    yield folder / destination.name
    if is_vmdk_name(destination.name):
        yield folder / flat_name_for(destination.name)


def _collect(top: Path, into: list[Leftover]) -> bool:
    """Adds the leftovers below a folder; follows no link and stays in its file system. Returns False for too many files."""
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
            elif _counts(entry.name, facts):
                into.append(Leftover(path=Path(entry.path), size=facts.st_size, mtime=facts.st_mtime))
        if seen > MOST_ENTRIES:
            return False
    return True


def _counts(name: str, facts: os.stat_result) -> bool:
    """Whether a file may be a leftover by its name, or belongs to an instant session, of whatever kind it is."""
    if not stat.S_ISREG(facts.st_mode):
        return open_sessions.is_of_session(name)
    if name.endswith(HOLD_SUFFIX) and facts.st_size:
        return False  # the record of an interrupted replacement, which is reported for the disk itself
    return open_sessions.is_of_session(name) or any(kind.match(name) for kind in (_PIECE, _HALF, _SWAP))


def _finding(one: Leftover, now: float) -> Finding:
    days, where = int((now - one.mtime) // DAY), printable(str(one.path))
    if _SWAP.match(one.path.name):
        return Finding(
            check="replacement-interrupted",
            what=f"the replacement of a disk in this folder was interrupted {days} days ago; this is the old disk or the new one",
            where=where,
            why="The old disk may hold work that was done since the backup. The *.phd-hold beside it says which one this is.",
            mend="Do not delete it. Type 'phd recover DISK', or restore to that disk again: both complete the replacement first.",
        )
    half = _HALF.match(one.path.name)
    if half:
        return Finding(
            check="refresh-interrupted",
            what=f"a refresh of {printable(half['of'])} was interrupted {days} days ago and never completed",
            where=where,
            why="That disk is half old and half new until the refresh is finished. Without this file it cannot be.",
            mend="Do not delete it. Type 'phd recover DISK' to finish the refresh, or 'phd recover DISK --back' to take it back.",
        )
    return Finding(
        check=_STALE,
        what=f"{size(one.size)} of an unfinished file, not written for {days} days; no job will continue with it",
        where=where,
        why=_WHY,
        mend=f"rm -- {shlex.quote(where)}" if where == str(one.path) else "Delete it; %HH in its name stands for one byte.",
    )
