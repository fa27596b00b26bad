"""`phd priority JOB N`: gives a waiting job another priority."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import PRIORITY, command, config_option
from phd_daemon.operations.installation import job_named, read_config
from phd_daemon.operations.queue import set_priority
from phd_daemon.show import output
from phd_daemon.spool.layout import Act, allowing
from restore_core.naming import printable


@command(stays_done=True)
@click.argument("job", shell_complete=jobs_in(*allowing(Act.PRIORITY)))
@click.argument("number", metavar="N", type=PRIORITY)
@config_option
def priority(job: str, number: int, config: Path | None) -> None:
    """Give the waiting JOB the priority N, 0 (first) to 9 (last).

    It keeps its place among jobs of the same priority, its tries and its log.
    """
    settings = read_config(config)
    name = job_named(settings, job)
    before = set_priority(settings, name, number)
    output.say(f"{printable(name)}: priority {number}" + (", as it was" if before == number else f" (was {before})"))
