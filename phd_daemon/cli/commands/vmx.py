"""`phd vmx DELTA --to DIR`: restores only the VMX, the copy from when the backup was made, unedited."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.options import command, config_option, open_targets
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.operations.restore import vmx_into
from phd_daemon.show import output
from restore_core.naming import printable


@command(stays_done=False)
@click.argument("delta", shell_complete=files)
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The folder; made if need be.")
@config_option
def vmx(delta: str, folder: Path, config: Path | None) -> None:
    """Restore only the VMX in DELTA into DIR. It is never edited, and never put over a file that is there."""
    settings = read_config(config)
    targets = open_targets(settings)
    written = vmx_into(settings, targets, archive_ref(delta, targets.specs), folder.absolute())
    output.say(f"{printable(str(written))}: check its paths and settings before you use it")
