"""The spool and its daemon: is it safe to keep jobs there, and does a daemon serve it."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.operations.installation import how_to_start
from phd_daemon.spool.layout import meant_name
from phd_daemon.spool.safety import faults
from phd_daemon.spool.snapshot import daemon_running, strays
from restore_core.naming import printable

_NEEDED = "The spool is the queue: without it no job can be asked for, and the daemon does not start."


def examine(folder: Path, *, enabled: bool) -> Report:
    """Examines one spool and its daemon."""
    unsafe = (*_unsafe(folder), *_misnamed(folder))
    where = printable(str(folder))
    try:
        pid = daemon_running(folder)
    except OSError as error:
        return Report(findings=unsafe, unseen=(f"whether a daemon serves {where}: {error.strerror}; ask as root",))
    if pid is None:
        down = Finding(
            check="daemon-down",
            what="no daemon serves the spool",
            where=where,
            why="No job is started, and no replica is refreshed.",
            mend=f"{'Start it' if os.path.isdir(folder) else 'Make the spool first, then start it'}: {how_to_start()}."
            " If it stops again, its log says why.",
        )
        return Report(findings=(*unsafe, down))
    disabled = Finding(
        check="queue-disabled",
        what="the queue is switched off",
        where=where,
        why="The daemon runs, but starts no job.",
        mend="To start jobs again, set enabled = true below [queue] in phd.toml.",
    )
    fact = f"a daemon serves {where}" + (f" (pid {pid})" if pid else "")
    return Report(findings=unsafe if enabled else (*unsafe, disabled), facts=(fact,))


def _unsafe(folder: Path) -> Iterator[Finding]:
    for fault in faults(folder):
        yield _finding(folder, fault.message, fault.remedy)
    yield from (_finding(folder, what, mend) for what, mend in _weak_folders_above(folder))


def _misnamed(folder: Path) -> Iterator[Finding]:
    with contextlib.suppress(OSError):
        for name, why in strays(folder).items():
            if (right := meant_name(name)) is not None:
                where = printable(str(folder))
                yield Finding(
                    check="spool-misnamed",
                    what=why,
                    where=f"{where}/{printable(name)}",
                    why="Whoever put it there waits for a restore that never begins.",
                    mend=f"In {where}: mv -n {shlex.quote(printable(name))} {shlex.quote(printable(right))}",
                )


def _finding(folder: Path, what: str, mend: str) -> Finding:
    return Finding(
        check="spool-unsafe",
        what=what.removeprefix("queue.spool: "),
        where=printable(str(folder)),
        why=_NEEDED
        if not os.path.lexists(folder)
        else "Who can change the spool decides what is restored, and where to. The daemon does not start with an unsafe one.",
        mend=mend,
    )


def _weak_folders_above(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields folders above the spool in which another user could put another folder in its place."""
    for above in Path(os.path.realpath(folder)).parents:
        try:
            found = os.stat(above)
        except OSError:
            continue
        name, mode = printable(str(above)), stat.S_IMODE(found.st_mode)
        if found.st_uid not in (0, os.geteuid()):
            yield f"{name}, above it, belongs to user {found.st_uid}", f"chown root {name}, or put the spool elsewhere."
        elif mode & 0o022 and not mode & stat.S_ISVTX:
            yield f"{name}, above it, may be written by others (mode {mode:04o})", f"chmod go-w {name}."
