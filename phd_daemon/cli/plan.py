"""`phd plan DELTA --to PATH`: what a restore would move, where from, and why. Nothing is written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from phd_daemon.cli import show
from phd_daemon.cli.live import LiveReport
from phd_daemon.cli.options import (
    archive_ref,
    config_option,
    destination,
    full_option,
    json_option,
    open_targets,
    read_config,
    receipts_folder,
    to_option,
)
from restore_core.restore.request import PlanSummary, RestoreRequest
from restore_core.restore.run import plan_delta


@click.command()
@click.argument("delta")
@to_option
@full_option
@json_option
@config_option
def plan(delta: str, to: str, full: str | None, as_json: bool, config: Path | None) -> None:
    """Show what a restore of DELTA would move. Both archives are checked as a restore checks them."""
    settings = read_config(config)
    targets = open_targets(settings)
    request = RestoreRequest(
        delta=archive_ref(delta, targets.specs),
        destination=destination(to),
        full=archive_ref(full, targets.specs) if full else None,
        overwrite=True,
        records=receipts_folder(settings),
        catalog=settings.catalog_folder,
        catalog_max_age=settings.index.max_age,
    )
    report = _Silent() if as_json else LiveReport()
    found = plan_delta(request, targets, reporter=report)
    if as_json:
        show.as_json(asdict(found))
        return
    show.say(f"{found.disk_size} bytes of disk in blocks of {found.block_size} bytes")
    show.table(("BLOCKS", "BYTES", "FROM", "WHY"), _rows(found))


def _rows(found: PlanSummary) -> list[tuple[str, str, str, str]]:
    parts = [
        (found.keep_blocks, found.keep_bytes, "kept", "right already on the disk that is there"),
        (found.zero_blocks, found.zero_bytes, "nowhere", "zero: neither fetched nor decoded"),
        (found.full_blocks, found.full_bytes, "Full", "not changed since the Full"),
        (found.delta_blocks, found.delta_bytes, "Delta", "changed since the Full"),
    ]
    return [(str(blocks), str(size), source, why) for blocks, size, source, why in parts]


class _Silent(LiveReport):
    def note(self, text: str) -> None:
        del text
