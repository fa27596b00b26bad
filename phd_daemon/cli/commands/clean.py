"""`phd clean [JOB...]`: removes finished jobs with their logs; never anything that waits or runs.

On a terminal it shows what goes and asks. Elsewhere it does not ask, as it never did: timers and scripts clean up with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import DAYS, command, config_option, quiet_option
from phd_daemon.cli.questions import ask_on_a_terminal, must_ask, yes_option
from phd_daemon.operations import queue as operations
from phd_daemon.operations.installation import job_named, read_config
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.spool.layout import Act, State, allowing
from restore_core.errors import UsageError
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.spool.requests import EndedJob

_NAMES_SHOWN = 10


@command(stays_done=True)
@click.argument("jobs", nargs=-1, metavar="[JOB...]", shell_complete=jobs_in(*allowing(Act.REMOVE)))
@click.option(
    "--older-than",
    metavar="DAYS",
    type=DAYS,
    help="Only jobs that ended at least so many days ago.",
)
@yes_option()
@quiet_option
@config_option
def clean(jobs: Sequence[str], *, older_than: float | None, yes: bool, config: Path | None) -> None:
    """Remove finished jobs with their logs.

    Without JOB all of them: done, failed, cancelled and rejected. On a terminal it shows what goes, and asks. Disks are never
    touched.
    """
    if jobs and older_than is not None:
        raise UsageError("--older-than cannot be used with names of jobs", remedy="Give the names, or an age.")
    settings, now = read_config(config), time.time()
    names = [job_named(settings, job) for job in jobs]
    age = None if older_than is None else older_than * 86400
    if must_ask(yes=yes) and (found := operations.removable(settings, names, older_than=age, now=now)):
        output.table(("STATE", "JOBS", "NAMES"), _rows(found))
        size = output.size(sum(one.size for one in found))
        ask_on_a_terminal(f"Remove {counted(len(found), 'job')} with the logs, {size}?", yes=yes, otherwise="nothing was removed")
        names = [] if age is not None else [one.name for one in found]  # what was shown; by age, that moment means the same
    gone = operations.clean(settings, names, older_than=age, now=now)
    for job in gone:
        output.say(f"{printable(job)}: removed")
    if not gone:
        output.say("nothing to remove")


def _rows(found: list[EndedJob]) -> list[tuple[str, str, str]]:
    by_state: dict[tuple[State, ...], list[str]] = {}
    for one in found:
        by_state.setdefault(one.states, []).append(printable(one.name))
    rows = []
    for states, names in sorted(by_state.items(), key=lambda item: (not item[0], [state.meaning for state in item[0]])):
        more = len(names) - _NAMES_SHOWN
        shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        rows.append((" and ".join(state.meaning for state in states) or "only a log", str(len(names)), shown))
    return rows
