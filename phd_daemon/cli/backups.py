"""`phd backups`: what the targets hold, as they are now, newest last."""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable
from pathlib import Path

import click

from phd_daemon.cli import show
from phd_daemon.cli.options import config_option, json_option, read_config
from restore_core import catalog
from restore_core.catalog import CatalogEntry
from restore_core.errors import ExitCode, TargetUnavailable
from restore_core.naming import ArchiveType, printable, scsi_colon
from restore_core.targets import TargetSet


@click.command()
@click.option("--vm", metavar="NAME", help="Only this VM; * and ? are wildcards.")
@click.option("--vmdk", metavar="NAME", help="Only this disk; * and ? are wildcards.")
@click.option("--type", "wanted", type=click.Choice(["full", "delta"]), help="Only Fulls, or only Deltas.")
@json_option
@config_option
def backups(vm: str | None, vmdk: str | None, wanted: str | None, as_json: bool, config: Path | None) -> int:
    """List the backups on all targets. Exit code 69 if a target does not answer; the others are listed all the same."""
    targets = TargetSet(read_config(config).targets)
    found: list[CatalogEntry] = []
    silent = False
    for name in targets.specs:
        try:
            found += catalog.entries(targets[name])
        except TargetUnavailable as error:
            silent = True
            show.complain(str(error))
    chosen = sorted(choose(found, vm=vm, vmdk=vmdk, wanted=wanted), key=lambda entry: (entry.time, entry.ref))
    maps = {(entry.disk_key, entry.name.stamp) for entry in found if entry.name.empty_delta}
    if as_json:
        show.as_json([_data(entry, maps) for entry in chosen])
    else:
        titles = ("TARGET", "DATE (UTC)", "TYPE", "SIZE", "SCSI", "VM", "UUID", "VMDK", "ARCHIVE")
        show.table(titles, [_row(entry, maps) for entry in chosen])
    return ExitCode.UNAVAILABLE if silent else ExitCode.DONE


def choose(found: Iterable[CatalogEntry], *, vm: str | None, vmdk: str | None, wanted: str | None) -> list[CatalogEntry]:
    """The entries a person asked for."""
    return [
        entry
        for entry in found
        if (vm is None or fnmatch.fnmatchcase(entry.folder.vm, vm))
        and (vmdk is None or fnmatch.fnmatchcase(entry.name.disk, vmdk))
        and (wanted is None or entry.name.type.value == wanted)
    ]


_Maps = set[tuple[tuple[str, str, str], dt.datetime]]


def _type(entry: CatalogEntry, maps: _Maps) -> str:
    if entry.name.type is ArchiveType.DELTA:
        return "empty Delta" if entry.name.empty_delta else "Delta"
    return "Full" if (entry.disk_key, entry.name.stamp) in maps else "Full, no map"


def _row(entry: CatalogEntry, maps: _Maps) -> tuple[str, ...]:
    return (
        entry.ref.target,
        f"{entry.time:%Y-%m-%d %H:%M}",
        _type(entry, maps),
        show.size(entry.stat.size),
        scsi_colon(entry.name.scsi),
        printable(entry.folder.vm),
        printable(entry.folder.uuid or "-"),
        printable(entry.name.disk),
        str(entry.ref),
    )


def _data(entry: CatalogEntry, maps: _Maps) -> dict[str, object]:
    return {
        "archive": str(entry.ref),
        "target": entry.ref.target,
        "time": entry.time.isoformat(),
        "type": _type(entry, maps).lower(),
        "size": entry.stat.size,
        "scsi": entry.name.scsi,
        "vm": printable(entry.folder.vm),
        "uuid": entry.folder.uuid,
        "vmdk": printable(entry.name.disk),
    }
