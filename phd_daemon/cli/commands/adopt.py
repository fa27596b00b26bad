"""`phd adopt FULL`: makes the empty Delta for a gzip of a flat disk that something else wrote. The gzip stays as it is."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, open_targets, quiet_option, scsi_option
from phd_daemon.operations.archiving import make_empty_delta
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.show import output
from phd_daemon.show.live import FullLine, LiveReport
from restore_core.backup.subject import Asked


@command(stays_done=True)
@click.argument("full", shell_complete=files)
@click.option("--vm", metavar="NAME", help="The VM's name; default: from the folder.")
@click.option("--uuid", help="The VM's UUID; default: from the folder, else derived from the names.")
@scsi_option
@quiet_option
@config_option
def adopt(*, full: str, vm: str | None, uuid: str | None, scsi: str | None, config: Path | None) -> None:
    """Make the empty Delta for FULL. With it the Full can be verified, queued, and restored block by block.

    FULL is any gzip of a flat disk. Its Delta is put beside it.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    ref = archive_ref(full, targets.specs)
    report, asked = LiveReport(FullLine()), Asked(vm=vm, uuid=uuid, scsi=scsi)
    with interruptible() as stop:
        try:
            empty = make_empty_delta(settings, targets, ref, asked, report=report.progress, stop=stop)
        finally:
            report.close()
    output.say(f"empty Delta {empty}")
