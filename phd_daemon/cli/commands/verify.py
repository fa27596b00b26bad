"""`phd verify ARCHIVE`: proves every byte of an archive, and of the Full it needs, without restoring."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, full_option, json_option, open_targets, quiet_option
from phd_daemon.operations.archiving import check_archive
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.show import output
from phd_daemon.show.live import LiveLine, LiveReport


@command(stays_done=False)
@click.argument("archive", shell_complete=files)
@full_option
@json_option
@quiet_option
@config_option
def verify(archive: str, full: str | None, as_json: bool, config: Path | None) -> None:
    """Prove every byte of ARCHIVE, a Delta or a Full. Exit code 0, or 65 and what is wrong."""
    targets = open_targets(read_config(config))
    report = LiveReport(live=LiveLine(output.complain, draw=lambda _: None)) if as_json and not output.is_quiet() else LiveReport()
    with interruptible() as stop:
        targets.stop = stop
        try:
            reference = archive_ref(full, targets.specs) if full else None
            found = check_archive(targets, archive_ref(archive, targets.specs), full=reference, reporter=report, stop=stop)
        finally:
            report.close()
    if as_json:
        output.as_json({**asdict(found), "archive": str(found.archive), "full": str(found.full) if found.full else None})
        return
    needs = f", with its Full {found.full}" if found.full and found.full != found.archive else ""
    output.say(f"{found.archive}: good{needs} ({found.bytes_checked} bytes checked, by {found.by})")
