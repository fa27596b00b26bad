"""`phd log JOB [-f]`: prints the log of a job; with -f until the job is final. ^C ends the command, not the job."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import command, config_option
from phd_daemon.operations.follow import follow, known_job, whole_log
from phd_daemon.operations.installation import job_named, read_config, spool_of
from phd_daemon.show import output
from restore_core.errors import UsageError
from restore_core.naming import printable


@command(stays_done=False)
@click.argument("job", shell_complete=jobs_in())
@click.option("-f", "--follow", "live", is_flag=True, help="Go on until the job is final. ^C leaves the viewer only.")
@config_option
def log(job: str, live: bool, config: Path | None) -> None:
    """Show the log of JOB."""
    settings = read_config(config)
    spool, stem = spool_of(settings), job_named(settings, job)
    state = known_job(spool, stem)
    if not live:
        try:
            for piece in whole_log(spool, stem):
                output.say(piece, end="")
        except FileNotFoundError:
            output.complain(f"{printable(stem)} has no log yet: no daemon has accepted the job. Is 'phd daemon' running?")
        return
    if state is None:
        raise UsageError(f"{printable(stem)} is no longer in the queue; only its log is left", remedy="Read it without -f.")
    try:
        for piece in follow(spool, stem):
            output.say(piece, end="")
    except KeyboardInterrupt:
        output.say()
