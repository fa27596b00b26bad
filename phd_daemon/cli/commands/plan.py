"""`phd plan DELTA --to PATH`: prints what a restore would move, from where, and why. No disk is written."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, json_option, open_targets, restore_options
from phd_daemon.operations import restore as operations
from phd_daemon.operations.installation import archive_ref, destination, read_config
from phd_daemon.operations.restore import request_for
from phd_daemon.show import output
from phd_daemon.show.live import LiveLine, LiveReport
from restore_core.archive.header import DeltaHeader
from restore_core.naming import printable, time_text
from restore_core.restore.fulls.candidates import Candidate
from restore_core.restore.preview import Preview
from restore_core.restore.request import PlanSummary, RestoreOptions, RestoreRequest


@command(stays_done=False)
@click.argument("delta", shell_complete=files)
@restore_options
@json_option
@config_option
def plan(*, delta: str, to: str, full: str | None, options: RestoreOptions, as_json: bool, config: Path | None) -> None:
    """Show what a restore of DELTA with the same options would move, from which Full, and what it would be refused for.

    Both archives are checked as a restore checks them. The exit code is that of the restore's refusal, 0 where there is none.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    reference = archive_ref(full, targets.specs) if full else None
    request = request_for(
        settings, delta=archive_ref(delta, targets.specs), destination=destination(to), full=reference, options=options
    )
    report = LiveReport(live=LiveLine(say=lambda _: None)) if as_json else LiveReport()
    with interruptible() as stop:
        targets.stop = stop
        made = operations.plan(settings, request, targets, reporter=report, stop=stop)
    preview, found = made.preview, made.preview.plan
    if as_json:
        data = {
            "delta": _delta_data(request, made.header),
            "fulls": [_full_data(one) for one in made.fulls],
            "needs_overwrite": made.needs_overwrite,
        }
        refused = [{"exit_code": int(one.exit_code), "what": one.message, "remedy": one.remedy} for one in preview.refusals]
        output.as_json({**asdict(found), **data, "way": preview.way, "refusals": refused})
        _end_with(preview)
        return
    output.say(f"\nDelta: {request.delta}\n  of {made.header.describe()}")
    if made.header.of_a_part:
        output.say(f"  {made.header.of_a_part}")
    _show_fulls(made.fulls)
    output.say(f"\n{found.disk_size} bytes of disk in blocks of {found.block_size} bytes")
    output.table(("BLOCKS", "BYTES", "FROM", "WHY"), _rows(found))
    if made.needs_overwrite:
        where = printable(str(request.destination))
        needs = "" if options.overwrite else ": a restore needs --overwrite, and then takes this way"
        output.say(f"\n{where} is there already{needs or ', and is written this way'}: {preview.way}")
    for refusal in preview.refusals:
        output.say(f"\nA restore would be refused now: {refusal}")
    _end_with(preview)


def _end_with(preview: Preview) -> None:
    """Ends as the restore would: the exit code of the first refusal says whether it can be tried again."""
    if preview.refusals:
        sys.exit(preview.refusals[0].exit_code)


def _show_fulls(fulls: list[Candidate]) -> None:
    """Prints the Fulls, proven ones with `*`. A restore takes the first one, or a copy of it that is faster to read."""
    if not fulls:
        output.say("Full: not needed, or not known to the catalog")
        return
    output.say("Fulls of this disk; * is proven to be the one of this Delta:")
    rows = [
        ("*" if one.proven else "", output.size(one.size), time_text(one.time) if one.time else "-", str(one.ref), one.why)
        for one in fulls
    ]
    output.table(("", "SIZE", "DATE", "FULL", "WHY"), rows)


def _delta_data(request: RestoreRequest, head: DeltaHeader) -> dict[str, object]:
    return {
        "archive": str(request.delta),
        "size": head.file_size,
        "time": head.time,
        "vm": printable(head.vm),
        "uuid": printable(head.uuid),
        "scsi": printable(head.scsi),
        "vmdk": printable(head.disk),
        "left_out": list(map(printable, head.left_out)),
    }


def _full_data(one: Candidate) -> dict[str, object]:
    stamp = time_text(one.time).replace(" ", "T") if one.time else None
    return {"archive": str(one.ref), "size": one.size, "stamp": stamp, "proven": one.proven, "why": one.why}


def _rows(found: PlanSummary) -> list[tuple[str, str, str, str]]:
    parts = [
        (found.keep_blocks, found.keep_bytes, "kept", "right already on the disk that is there"),
        (found.zero_blocks, found.zero_bytes, "nowhere", "zero: neither fetched nor decoded"),
        (found.full_blocks, found.full_bytes, "Full", "not changed since the Full"),
        (found.delta_blocks, found.delta_bytes, "Delta", "changed since the Full"),
    ]
    return [(str(blocks), str(size), source, why) for blocks, size, source, why in parts]
