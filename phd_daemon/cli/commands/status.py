"""`phd status`: how this installation stands, on one screen."""

from __future__ import annotations

import time
from pathlib import Path

import click

from phd_daemon.cli.options import command, config_option, json_option
from phd_daemon.show import output
from phd_daemon.show.overview import status_lines
from restore_core.errors import ExitCode


@command(stays_done=False)
@click.option("--ask", is_flag=True, help="Look at all targets first, which may take minutes; else their last listing is shown.")
@json_option
@config_option
def status(*, ask: bool, as_json: bool, config: Path | None) -> int:
    """Show how this installation stands: daemon, queue, rules, targets, datastores, and what needs a person.

    Exit code 0: all of it could be looked at, and nothing needs a person. 1: something does. 78: phd.toml is wrong.
    """
    from phd_daemon.operations import status as operation

    if ask:
        _ask(config)
    found = operation.overview(config)
    document = operation.document(found)
    if as_json:
        output.as_json(document)
    else:
        output.say("\n".join(status_lines(document, time.time())))
    if found.problem:
        return ExitCode.CONFIGURATION
    return ExitCode.FINDINGS if found.needs or found.unseen else ExitCode.DONE


def _ask(config: Path | None) -> None:
    from phd_daemon.config.load import load_what_is_right
    from phd_daemon.operations.targets import index_all

    settings, _problem = load_what_is_right(config)
    index_all(settings)
