"""`phd recover DISK`: finishes or takes back a change of a disk that a crash or an error interrupted."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option
from phd_daemon.cli.questions import ask_on_a_terminal, yes_option
from phd_daemon.operations.installation import destination, read_config
from phd_daemon.operations.restore import end_interrupted
from phd_daemon.show import output
from restore_core.errors import UsageError
from restore_core.naming import printable
from restore_core.restore.redo_file import Side


@command(stays_done=False)
@click.argument("disk", shell_complete=files)
@click.option("--back", is_flag=True, help="Take the change back: the disk becomes what it was before.")
@click.option("--as-it-is", is_flag=True, help="Give the disk its name again as it lies, perhaps half old and half new.")
@yes_option()
@config_option
def recover(disk: str, *, back: bool, as_it_is: bool, yes: bool, config: Path | None) -> None:
    """Finish a change of DISK (NAME.vmdk) that was interrupted, or take it back.

    Without an option the change is finished. The next restore onto the disk does that by itself, too; this is for when it says
    that it cannot, or when the disk is wanted as it was before.
    """
    if back and as_it_is:
        raise UsageError("--back and --as-it-is cannot be used together", remedy="Give one of them, or none.")
    settings = read_config(config)
    if as_it_is:
        question = f"Give {printable(disk)} up as it lies? It may be half old and half new, and neither side can be had after that."
        ask_on_a_terminal(question, yes=yes, otherwise="nothing was changed")
    side = None if as_it_is else Side.OLD if back else Side.NEW
    with interruptible() as stop:
        notes = end_interrupted(settings, destination(disk), side, stop)
    for note in notes:
        output.say(f"{printable(disk)}: {note}")
