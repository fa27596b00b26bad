"""`phd stub FLAT`: writes the descriptor (stub) that a flat file needs to be used as a VMDK."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.options import command
from phd_daemon.operations.restore import stub_for
from phd_daemon.show import output
from restore_core.naming import printable


@command(stays_done=False)
@click.argument("flat", type=click.Path(path_type=Path))
def stub(flat: Path) -> None:
    """Write NAME.vmdk, the descriptor of FLAT, beside it. FLAT is a NAME-flat.vmdk."""
    output.say(f"{printable(str(stub_for(flat)))}: written")
