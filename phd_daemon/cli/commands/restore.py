"""`phd restore ARCHIVE --to PATH`: a Delta or a Full, in the foreground, with live progress."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, open_targets, quiet_option, restore_options
from phd_daemon.operations import restore as operations
from phd_daemon.operations.installation import archive_ref, destination, prepare_process, read_config
from phd_daemon.operations.restore import look_into, request_for
from phd_daemon.show import output
from phd_daemon.show.live import FullLine, LiveReport, done_line, header_block
from phd_daemon.show.progress import delta_line
from restore_core.naming import printable
from restore_core.restore.request import RestoreOptions, RestoreRequest, VmxChoice
from restore_core.targets import TargetSet

if TYPE_CHECKING:
    from phd_daemon.config.model import Config


@command(stays_done=True)
@click.argument("archive", shell_complete=files)
@restore_options
@quiet_option
@config_option
def restore(*, archive: str, to: str, full: str | None, options: RestoreOptions, config: Path | None) -> None:
    """Restore ARCHIVE now, and show how far it is.

    ARCHIVE is a Delta or a Full: NAME:folder/file on a target, or a local file. A Delta is verified block by block; a
    Full alone is checked by its own CRCs only, so a Delta is the better choice. ^C stops and cleans up.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    reference = archive_ref(full, targets.specs) if full else None
    request = request_for(
        settings, delta=archive_ref(archive, targets.specs), destination=destination(to), full=reference, options=options
    )
    prepare_process()
    with interruptible() as stop:
        targets.stop = stop
        is_full, has_vmx = look_into(request, targets)
        output.say("\n".join(header_block(request, targets.specs, is_full=is_full)))
        report = LiveReport(FullLine() if is_full else delta_line)
        stop.must_go_on = report.must_go_on
        try:
            outcome = operations.restore(settings, request, targets, is_full=is_full, reporter=report, stop=stop)
        finally:
            report.close()
    output.say(done_line(outcome, is_full=is_full))
    somebody_answers = sys.stdin.isatty() and output.on_a_terminal() and not output.is_quiet()
    if has_vmx and request.options.vmx is VmxChoice.NONE and somebody_answers:
        _offer_vmx(settings, request, targets)


def _offer_vmx(settings: Config, request: RestoreRequest, targets: TargetSet) -> None:
    """Asks whether the VMX is restored, too. It is the copy from the backup, and is not edited."""
    folder = request.destination.parent
    if click.confirm(f"Restore the VMX file also, unedited, to {printable(str(folder))}?", default=False):
        written = operations.vmx_into(settings, targets, request.delta, folder)
        output.say(f"{printable(str(written))}: check its paths and settings before you use it")
