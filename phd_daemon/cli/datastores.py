"""`phd datastores`: which disk each datastore is, and whether it is there. `accept`, `forget`: what only a person can say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import datastore_names
from phd_daemon.cli.options import config_option, json_option
from phd_daemon.operations.installation import read_config, spool_of
from phd_daemon.show import output
from restore_core.errors import ExitCode, UsageError
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.host.datastore_list import DatastoreView
    from restore_core.disk.known_datastores import DatastoreRecord


@click.group(invoke_without_command=True)
@json_option
@config_option
@click.pass_context
def datastores(context: click.Context, as_json: bool, config: Path | None) -> int | None:
    """Show every datastore. Is it mounted, by what is it known. Exit code 73 if one is not mounted, or another disk than before."""
    if context.invoked_subcommand is not None:
        context.obj = config
        return None
    found = _views(_record(config))
    if as_json:
        output.as_json([_data(one) for one in found])
    elif not found:
        output.say("no datastores: there is no folder below datastores.roots (phd.toml)")
    else:
        _print(found)
    return ExitCode.DESTINATION if any(one.state.wrong for one in found) else ExitCode.DONE


@datastores.command()
@click.argument("name", shell_complete=datastore_names)
@config_option
@click.pass_context
def accept(context: click.Context, name: str, config: Path | None) -> None:
    """Say that what is mounted at datastore NAME now is a new disk under the old name. Jobs that wait for it go on."""
    from restore_core.disk.datastore import MARKER
    from restore_core.disk.known_datastores import accept as record_anew

    record = _record(config or context.obj, to_change=True)
    path = _named(name, (one.path for one in _views(record)))
    seen = record_anew(path, record)
    by = f"its file system and the file {MARKER}" if seen.marker else f"its file system alone ({MARKER} cannot be written there)"
    output.say(f"{printable(str(path))}: recorded as {printable(seen.file_system.describe())}; known by {by}")


@datastores.command()
@click.argument("name", shell_complete=datastore_names)
@config_option
@click.pass_context
def forget(context: click.Context, name: str, config: Path | None) -> None:
    """Drop datastore NAME from the record: it is gone for good, or is new when it is used the next time. It is not touched."""
    from restore_core.disk.known_datastores import forget as drop

    record = _record(config or context.obj, to_change=True)
    path = _named(name, (one.path for one in _views(record)))
    output.say(f"{printable(str(path))}: {'forgotten' if drop(path, record) else 'it was not recorded'}")


def _record(config: Path | None, *, to_change: bool = False) -> DatastoreRecord:
    from phd_daemon.host.datastores import record_of
    from phd_daemon.spool.safety import check_spool

    settings = read_config(config)
    if to_change:
        check_spool(spool_of(settings))  # and its folder for state is made, should the daemon never have run
    return record_of(settings)


def _views(record: DatastoreRecord) -> list[DatastoreView]:
    from phd_daemon.host.datastore_list import views

    return views(record)


def _named(name: str, paths: Iterable[Path]) -> Path:
    """The one datastore of this name or path."""
    every = list(paths)
    found = [path for path in every if name in (path.name, printable(path.name), str(path), printable(str(path)))]
    if len(found) == 1:
        return found[0]
    if found:
        choice = " or ".join(printable(str(path)) for path in found)
        raise UsageError(f"'{printable(name)}' is the name of {len(found)} datastores", remedy=f"Write its path: {choice}.")
    known = ", ".join(printable(path.name) for path in every) or "none"
    raise UsageError(f"no datastore is named '{printable(name)}'; there are: {known}", remedy="'phd datastores' shows them all.")


def _data(one: DatastoreView) -> dict[str, object]:
    return {
        "name": printable(one.path.name),
        "path": printable(os.fspath(one.path)),
        "state": one.state.name.lower(),
        "known_by": one.known_by,
        "file_system": one.file_system,
        "free_bytes": one.free,
        "problem": one.problem,
        "remedy": one.remedy,
    }


def _print(found: list[DatastoreView]) -> None:
    rows = []
    for one in found:
        free = output.size(one.free) if one.free is not None else "-"
        rows.append((printable(str(one.path)), one.state.value, one.known_by or "-", free, one.file_system or "-"))
    output.table(("DATASTORE", "STATE", "KNOWN BY", "FREE", "FILE SYSTEM"), rows)
    for one in found:
        if one.problem:
            output.say(f"\n{one.problem}\n  {one.remedy}")
