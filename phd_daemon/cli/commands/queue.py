"""`phd queue [--watch]`: prints all jobs as a table. It reads the spool, so it is right when no daemon runs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.options import command, config_option, json_option, warn_if_nobody_serves
from phd_daemon.operations.installation import read_config, settings_in_use
from phd_daemon.operations.queue import jobs, never_read
from phd_daemon.show import output
from phd_daemon.show.times import minute
from phd_daemon.spool.snapshot import JobView, ReadStatuses
from restore_core.errors import UsageError, in_one_line
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

_EVERY = 1.0
_TITLES = ("JOB", "STATE", "PRIO", "BY", "SINCE", "TO", "WHAT")


@command(stays_done=False)
@click.option("--watch", is_flag=True, help="Show it again as it changes, until ^C.")
@json_option
@config_option
def queue(*, watch: bool, as_json: bool, config: Path | None) -> None:
    """Show all jobs. Running, waiting in their order, held, and finished with the newest last."""
    settings = read_config(config)
    if watch and as_json:
        raise UsageError("--watch and --json cannot be used together", remedy="Call --json in a loop, or read the .status files.")
    if watch:
        _watch(settings)
        return
    views = jobs(settings)
    if as_json:
        output.as_json([_data(view) for view in views])
        return
    _print(views)
    if not views and output.on_a_terminal():  # the words alone are what programs know
        output.say(f"  in {printable(str(settings.queue.spool))}; {settings_in_use(settings)}")
    for name, why in never_read(settings).items():
        output.complain(f"{printable(name)} in the spool is {why}")
    if any(view.state.moves_on for view in views):
        warn_if_nobody_serves(settings)


def _watch(settings: Config) -> None:
    shown: object = None
    known: ReadStatuses = {}
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            views = jobs(settings, known)
            if views != shown:
                shown = views
                output.clear()
                _print(views)
            time.sleep(_EVERY)


def _print(views: tuple[JobView, ...]) -> None:
    if views:
        output.table(_TITLES, [_row(view) for view in views])
    else:
        output.say("the queue is empty")


def _row(view: JobView) -> tuple[str, ...]:
    what = view.progress.line if view.progress else in_one_line(view.why)
    note = f" [{view.note}]" if view.note else ""
    priority, to = str(view.priority), printable(view.restore_to)
    return (printable(view.name), view.state.meaning, priority, printable(view.submitter), minute(view.since), to, f"{what}{note}")


def _data(view: JobView) -> dict[str, object]:
    return {**asdict(view), "name": printable(view.name), "restore_to": printable(view.restore_to), "state": view.state.meaning}
