"""`phd backups`: what the targets hold, out of the catalog, newest last."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from phd_daemon.cli.complete import target_names
from phd_daemon.cli.options import command, config_option, json_option
from phd_daemon.operations.backups import Maps, search, why_nothing
from phd_daemon.operations.installation import known_target, read_config
from phd_daemon.show import output
from phd_daemon.show.archives import type_of
from phd_daemon.show.times import ZONE, minute, parse_moment
from restore_core.catalog import CatalogEntry
from restore_core.catalog.index import Indexed
from restore_core.catalog.query import Query
from restore_core.errors import ExitCode
from restore_core.naming import ArchiveType, printable, scsi_colon, time_text

_TITLES = ("TARGET", "DATE (UTC)", "TYPE", "SIZE", "SCSI", "VM", "UUID", "VMDK", "ARCHIVE")


@command(stays_done=False)
@click.option("--vm", metavar="NAME", help="Only this VM; * and ? are wildcards, here and below.")
@click.option("--vmdk", metavar="NAME", help="Only this disk.")
@click.option("--uuid", metavar="UUID", help="Only VMs with this UUID; '-' for version-2 backups, which have none.")
@click.option("--scsi", metavar="ID", help="Only disks at this SCSI id: 00, 0:0 or scsi0:0.")
@click.option("--type", "wanted", type=click.Choice(["full", "delta"]), help="Only Fulls, or only Deltas.")
@click.option(
    "--since",
    metavar="TIME",
    help=f'Not older: "2026-11-24" (from the begin of that day), "2026-11-24 03:00", 3d (days ago), 12h. {ZONE}',
)
@click.option("--until", metavar="TIME", help="Not newer; the same forms, a date alone to the end of that day.")
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    shell_complete=target_names,
    help="Only on this target; may be repeated.",
)
@json_option
@config_option
def backups(
    *,
    vm: str | None,
    vmdk: str | None,
    uuid: str | None,
    scsi: str | None,
    wanted: str | None,
    since: str | None,
    until: str | None,
    targets: tuple[str, ...],
    as_json: bool,
    config: Path | None,
) -> int:
    """List the backups on all targets. Exit code 69 if one does not answer, or in part; what it held before is shown, too."""
    settings = read_config(config)
    names = [spec.name for spec in settings.targets]
    for name in targets:
        known_target(name, names)
    now = dt.datetime.now().astimezone()
    query = Query(
        vm=vm,
        vmdk=vmdk,
        uuid=uuid,
        scsi=scsi,
        since=parse_moment(since, now, end_of_day=False) if since else None,
        until=parse_moment(until, now, end_of_day=True) if until else None,
    )
    found = search(settings, query, kind=ArchiveType(wanted) if wanted else None, only=targets)
    if as_json:
        output.as_json([_data(entry, found.maps) for entry in found.entries])
    else:
        output.table(_TITLES, [_row(entry, found.maps) for entry in found.entries])
    if not found.entries and not as_json:
        filtered = any(query_option is not None for query_option in (vm, vmdk, uuid, scsi, wanted, since, until))
        output.complain(why_nothing(settings, vm, filtered=filtered))
    return _complain(found.targets, sum(not entry.settled for entry in found.entries))


def _complain(known: Iterable[Indexed], growing: int) -> int:
    """Prints what the list does not show by itself. Returns the exit code."""
    if growing:
        output.complain(f"{growing} of these are so new that they may not be complete yet: they are not offered for a restore")
    silent = [one for one in known if one.problem]
    partial = [one for one in known if one.partial]
    for one in partial:
        since = minute(min(gap.since for gap in one.gaps))
        output.complain(f"{one.partial}, since {since}; what it held there before is shown as not seen")
    for one in silent:
        as_of = f"shown as of {minute(one.head.began)}" if one.head else "never listed"
        output.complain(
            f"{one.problem}; {as_of}, no answer since {minute(one.stale_since or time.time())}\n  'phd index' looks again."
        )
    return ExitCode.UNAVAILABLE if silent or partial else ExitCode.DONE


def _row(entry: CatalogEntry, maps: Maps) -> tuple[str, ...]:
    return (
        entry.ref.target,
        time_text(entry.time),
        type_of(entry, maps) + (", not seen" if entry.stale else ""),
        output.size(entry.stat.size),
        scsi_colon(entry.name.scsi),
        printable(entry.folder.vm),
        printable(entry.folder.uuid or "-"),
        printable(entry.name.disk),
        str(entry.ref),
    )


def _data(entry: CatalogEntry, maps: Maps) -> dict[str, object]:
    return {
        "archive": str(entry.ref),
        "target": entry.ref.target,
        "time": entry.time.isoformat(),
        "type": type_of(replace(entry, left_out=()), maps).lower(),
        "left_out": list(entry.left_out),
        "size": entry.stat.size,
        "scsi": entry.name.scsi,
        "vm": printable(entry.folder.vm),
        "uuid": entry.folder.uuid,
        "vmdk": printable(entry.name.disk),
        "stale": entry.stale,
    }
