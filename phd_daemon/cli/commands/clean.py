"""`phd clean [JOB...]`: removes finished jobs with their logs; never anything that waits or runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import command, config_option
from phd_daemon.operations import queue as operations
from phd_daemon.operations.installation import read_config
from phd_daemon.show import output
from phd_daemon.spool.layout import Act, allowing
from restore_core.errors import UsageError
from restore_core.naming import printable, unescape_name


@command(stays_done=True)
@click.argument("jobs", nargs=-1, metavar="[JOB...]", shell_complete=jobs_in(*allowing(Act.REMOVE)))
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Only jobs that ended at least so many days ago.")
@config_option
def clean(jobs: Sequence[str], older_than: float | None, config: Path | None) -> None:
    """Remove finished jobs with their logs.

    Without JOB all of them: done, failed, cancelled and rejected. Disks are never touched.
    """
    if jobs and older_than is not None:
        raise UsageError("--older-than cannot be used with names of jobs", remedy="Give the names, or an age.")
    age = None if older_than is None else older_than * 86400
    gone = operations.clean(read_config(config), [unescape_name(job) for job in jobs], older_than=age)
    for job in gone:
        output.say(f"{printable(job)}: removed")
    if not gone:
        output.say("nothing to remove")
