"""`phd datastores`: prints which disk each datastore is, and whether it is mounted; `accept` and `forget` change the record."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from phd_daemon.cli.complete import datastore_names
from phd_daemon.cli.options import NounGroup, config_option, json_option
from phd_daemon.cli.questions import ask_on_a_terminal, yes_option
from phd_daemon.host.datastores import DatastoreView
from phd_daemon.operations import datastores as operations
from phd_daemon.operations.installation import read_config
from phd_daemon.show import output
from restore_core.errors import ExitCode
from restore_core.naming import printable


@click.group(cls=NounGroup, invoke_without_command=True)
@json_option
@config_option
@click.pass_context
def datastores(context: click.Context, as_json: bool, config: Path | None) -> int | None:
    """Show every datastore: whether it is mounted, and how it is recognised.

    Exit code 73 if one is not mounted, or another disk than before.
    """
    if context.invoked_subcommand is not None:
        context.obj = config
        return None
    found = operations.datastores(read_config(config))
    if as_json:
        output.as_json([_data(one) for one in found])
    elif not found:
        output.say("no datastores: there is no folder below datastores.roots (phd.toml)")
    else:
        _print(found)
    return ExitCode.DESTINATION if any(one.state.wrong for one in found) else ExitCode.DONE


@datastores.command()
@click.argument("name", shell_complete=datastore_names)
@yes_option()
@config_option
@click.pass_context
def accept(context: click.Context, name: str, *, yes: bool, config: Path | None) -> None:
    """Say that the disk at datastore NAME is a new one under the old name. Jobs that wait for it go on."""
    from restore_core.disk.datastore import MARKER

    settings = read_config(config or context.obj)
    question = f"Is what is mounted at {printable(name)} now the disk to restore to? Jobs that wait for it go on, and write to it."
    ask_on_a_terminal(question, yes=yes, otherwise=f"{printable(name)}: not accepted; nothing was recorded")
    path, seen = operations.accept(settings, name)
    by = f"its file system and the file {MARKER}" if seen.marker else f"its file system alone ({MARKER} cannot be written there)"
    output.say(f"{printable(str(path))}: recorded as {printable(seen.file_system.describe())}; known by {by}")


@datastores.command()
@click.argument("name", shell_complete=datastore_names)
@yes_option()
@config_option
@click.pass_context
def forget(context: click.Context, name: str, *, yes: bool, config: Path | None) -> None:
    """Delete datastore NAME from the record. The datastore is not changed; if it is used again, it is recorded as a new one."""
    settings = read_config(config or context.obj)
    question = f"Forget which disk {printable(name)} was? The next one there is taken for right."
    ask_on_a_terminal(question, yes=yes, otherwise=f"{printable(name)}: not forgotten")
    path, was_known = operations.forget(settings, name)
    output.say(f"{printable(str(path))}: {'forgotten' if was_known else 'it was not recorded'}")


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
        "can": asdict(one.can),
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
        if words := "; ".join(one.can.remarks()):
            output.say(f"\n{printable(one.path.name)}: {words}")
