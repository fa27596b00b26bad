"""The folders that the settings name: roots of datastores, the one that preloaded rules restore to, and state_dir."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.doctor.finding import Finding, Report
from restore_core.naming import printable


def examine(config: Config) -> Report:
    """All of them. A default_datastore that phd.toml does not name is used by nobody, perhaps."""
    found = [*roots_missing(config.datastores.roots)]
    if config.replication.enabled and "default_datastore" in config.replication.model_fields_set:
        found += _default_missing(config.replication.default_datastore)
    return Report(findings=tuple(found)) + state(config.state_dir)


def roots_missing(roots: Iterable[Path]) -> Iterator[Finding]:
    """Each root that is no folder here."""
    for root in roots:
        if not root.is_dir():
            yield Finding(
                check="datastore-missing",
                what="it is named as a root of datastores, and there is no such folder",
                where=f"{printable(str(root))} (datastores.roots)",
                why="Nothing can be restored to a datastore below it: every job for one fails.",
                mend="Mount it, or name the right folder in phd.toml.",
            )


def _default_missing(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding(
            check="datastore-missing",
            what="rules that are preloaded restore to it, and there is no such folder",
            where=f"{printable(str(folder))} (replication.default_datastore)",
            why="The disks of those rules cannot be restored.",
            mend="Mount it, or name another: phd options replication.default_datastore /PATH",
        )


def state(folder: Path) -> Report:
    """Whether state_dir can be written. To a user whose folder it is not its rights say nothing about the daemon."""
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Report()
    if there.is_dir() and os.geteuid() not in (0, there.stat().st_uid):
        return Report(unseen=(f"whether the daemon can write {printable(str(folder))} (state_dir); ask as root",))
    return Report(
        findings=(
            Finding(
                check="state-dir-unwritable",
                what="it cannot be written" if there.is_dir() else f"{printable(str(there))} is no folder",
                where=f"{printable(str(folder))} (state_dir)",
                why="The catalog of the targets, the passes of replication and the daemon's pid file are kept there.",
                mend="Look at its mode, its mount (read-only?) and the path itself, or name another state_dir in phd.toml.",
            ),
        )
    )
