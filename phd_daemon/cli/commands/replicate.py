"""`phd replicate [--dry-run]`: runs one pass now, with or without a daemon, and prints what it did for each rule and why."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.options import command, config_option, json_option, quiet_option, warn_if_nobody_serves
from phd_daemon.config.model import Config
from phd_daemon.operations.installation import read_config, spool_of
from phd_daemon.operations.rules import troubles
from phd_daemon.replication import one_pass as passes
from phd_daemon.replication.pass_record import Pass
from phd_daemon.show import output
from phd_daemon.show.rules import TITLES, rule_row


@command(stays_done=True)
@click.option("--dry-run", is_flag=True, help="Show what a pass would do, per rule, and do nothing.")
@json_option
@quiet_option
@config_option
def replicate(*, dry_run: bool, as_json: bool, config: Path | None) -> int:
    """Look at the targets now and queue what the rules ask for. Exit code 65 for bad lines, 69 for a silent target."""
    settings = read_config(config)
    spool_of(settings)
    done = passes.dry_run(settings) if dry_run else _run(settings)
    if as_json:
        output.as_json(done.document())
    else:
        show_pass(done)
        if done.jobs:
            warn_if_nobody_serves(settings)
    return passes.exit_code(done)


def _run(settings: Config) -> Pass:
    """Runs a pass, after the end of one that is running: that one may have listed the targets before this was asked."""
    try:
        return passes.run_pass(settings, wait=False)
    except passes.AlreadyRunning:
        output.complain("another pass is running: waiting for its end")
        return passes.run_pass(settings, wait=True)


def show_pass(done: Pass) -> None:
    """Prints every rule with its decision, then what is wrong, then the summary."""
    if done.findings.decisions:
        output.table(
            TITLES,
            [rule_row(one, done.refused, dry_run=done.dry_run, silent=done.findings.silent) for one in done.findings.decisions],
        )
    show_troubles(done)
    output.say(done.summary())


def show_troubles(done: Pass, *, problems: bool = True) -> None:
    """Prints whatever a person should mend; `problems` are those of single lines of the rules."""
    for trouble in troubles(done, problems=problems):
        output.complain(trouble)
