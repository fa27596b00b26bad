"""Backup targets: does each answer, is it the same server as before, and can nobody else read our keys and passwords."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from phd_daemon.doctor.finding import Finding, Report
from restore_core.catalog import entries
from restore_core.catalog.index import Indexed, refuse_emptied
from restore_core.errors import ConfigurationError, PhdError, TargetEmptied, TargetNotTrusted
from restore_core.naming import printable
from restore_core.targets.base import ServerLimits, Target, TargetSpec
from restore_core.targets.gaps import Gap
from restore_core.targets.kinds import idle_options, make_target
from restore_core.targets.remote.secret import check_private

HASTY = ServerLimits(connect=8.0, login=10.0, idle=10.0, tries=1)
"""A person waits for the result, so each target gets one try."""


def reachable(
    specs: Collection[TargetSpec],
    make: Callable[[TargetSpec, ServerLimits], Target] = make_target,
    held: Callable[[TargetSpec], int] = lambda _: 0,
) -> Report:
    """Logs in to all targets at once and begins to list each. `held` returns how many archives a target held when last seen."""
    if not specs:
        return Report(facts=("no target is configured: only archives on this machine can be restored",))
    with ThreadPoolExecutor(min(8, len(specs))) as pool:
        troubles = list(pool.map(lambda spec: _trouble(spec, make, held(spec)), specs))
    return sum(map(_report, specs, troubles), Report())


def _trouble(spec: TargetSpec, make: Callable[[TargetSpec, ServerLimits], Target], held: int) -> PhdError | None:
    target = None
    try:
        target = make(spec, HASTY)
        gaps: list[Gap] = []
        if not held:
            next(iter(target.listing(gaps)), None)
        elif next(entries(target, gaps), None) is None and not gaps:
            refuse_emptied(spec, held)
    except PhdError as error:
        return error
    finally:
        if target is not None:
            target.close()
    return None


def _report(spec: TargetSpec, error: PhdError | None) -> Report:
    if error is None:
        return Report(facts=(f"target {spec.name} answers",))
    if may_not_look(error):
        return Report(unseen=(f"target {spec.name}: {error.message}; ask as root",))
    return Report(findings=(_finding(spec, error),))


def may_not_look(error: PhdError) -> bool:
    """Whether the user may not look, which says nothing about the installation."""
    return isinstance(error.__cause__, PermissionError)


def _finding(spec: TargetSpec, error: PhdError) -> Finding:
    if isinstance(error, TargetNotTrusted):
        check = "host-key-unknown"
        why = "Another server may have taken its place, and offer other backups. No server is trusted before a person says so."
    elif isinstance(error, TargetEmptied):
        check = "target-emptied"
        why = "A disk that is not mounted looks like this: its backups stay in the catalog, and no new ones are made there."
    else:
        check = "target-unreachable"
        why = "Nothing on it can be restored, and replicas of its backups are not refreshed."
    return Finding(check=check, what=error.message, where=f"targets.{spec.name}", why=why, mend=error.remedy)


def partial(known: Iterable[Indexed]) -> Iterator[Finding]:
    """Yields the targets that listed only a part of what they hold when last asked."""
    for one in known:
        if one.partial:
            yield Finding(
                check="listing-partial",
                what=one.partial,
                where=f"targets.{one.target}",
                why="Backups that were listed before count as still there, and newer ones are not seen.",
                mend=one.gaps[0].gap.kind.mend,
            )


def idle(specs: Iterable[TargetSpec]) -> Iterator[Finding]:
    """Yields the options of targets that do nothing: whoever wrote one believes that it does."""
    for spec in specs:
        for words in idle_options(spec):
            yield Finding(
                check="option-idle",
                what=words,
                where=f"targets.{spec.name}",
                why="What it should give, such as the proof of who the server is, is not there.",
                mend="Take it out of phd.toml, or use a URL of the kind that it is for.",
            )


def secrets(specs: Collection[TargetSpec], source: Path | None) -> Report:
    """Reports keys and passwords that others can read, and settings and lists of trusted servers that others can write."""
    found = Report()
    for spec in specs:
        for key, path in (("key_file", spec.key_file), ("password_file", spec.password_file)):
            if path is not None:
                found += _secret(path, f"targets.{spec.name}.{key}")
        for key, path in (("known_hosts", spec.known_hosts), ("ca_file", spec.ca_file)):
            if path is not None:
                found += _writable(Path(path), f"targets.{spec.name}.{key}", "Who writes it decides which server is trusted.")
    if source is not None:
        found += _writable(source, "phd.toml", "Who writes it decides what is restored, and from where.")
    return found


def _secret(path: str, key: str) -> Report:
    try:
        check_private(path, key)
    except ConfigurationError as error:
        if may_not_look(error):
            return Report(unseen=(f"{error.message}; ask as root",))
        missing = isinstance(error.__cause__, FileNotFoundError)
        why = "Without it there is no login." if missing else "Who reads it can log in. A secret that others can read is not used."
        what = error.message.removeprefix(f"{key}: ")
        check = "secret-missing" if missing else "secret-readable"
        return Report(findings=(Finding(check=check, what=what, where=key, why=why, mend=error.remedy),))
    return Report()


def _writable(path: Path, key: str, why: str) -> Report:
    try:
        mode = path.stat().st_mode
    except OSError:
        return Report()  # other checks report a missing file
    if not mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Report()
    name = printable(str(path))
    what = f"{name} may be written by others (mode {stat.S_IMODE(mode):04o})"
    return Report(findings=(Finding(check="settings-writable", what=what, where=key, why=why, mend=f"chmod go-w {name}."),))
