"""`phd hold`, `release`, `cancel`, `retry` and `priority`: the renames a person could do with `mv`, by name of the job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import config_option, read_config, spool_of
from phd_daemon.show import output
from phd_daemon.spool import requests
from phd_daemon.spool.layout import JobCommand, State, allowing
from restore_core.errors import ExitCode, PhdError
from restore_core.naming import printable, unprintable

_Action = Callable[[Path, str], None]
_Command = TypeVar("_Command", bound=Callable[..., object])


def jobs_argument(*states: State) -> Callable[[_Command], _Command]:
    """Names of jobs; the shell offers those that are in one of these states."""
    return click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=jobs_in(*states))


@click.command()
@jobs_argument(*allowing(JobCommand.HOLD))
@config_option
def hold(jobs: Sequence[str], config: Path | None) -> int:
    """Park waiting jobs until they are released."""
    return each(jobs, config, requests.hold, "held")


@click.command()
@jobs_argument(*allowing(JobCommand.RELEASE))
@config_option
def release(jobs: Sequence[str], config: Path | None) -> int:
    """Let held jobs wait for their turn again."""
    return each(jobs, config, requests.release, "released")


@click.command()
@jobs_argument(*allowing(JobCommand.CANCEL))
@config_option
def cancel(jobs: Sequence[str], config: Path | None) -> int:
    """Cancel jobs that wait or run. What a running one has written is removed."""
    return each(jobs, config, requests.cancel, "cancelled")


@click.command()
@jobs_argument(State.WAITING, *allowing(JobCommand.RETRY))
@config_option
def retry(jobs: Sequence[str], config: Path | None) -> int:
    """Run finished or rejected jobs again, with the same log; those that wait for their next try, now."""
    return each(jobs, config, requests.retry, "waits again")


@click.command()
@click.argument("job", shell_complete=jobs_in(*allowing(JobCommand.PRIORITY)))
@click.argument("number", metavar="N", type=click.IntRange(0, 9))
@config_option
def priority(job: str, number: int, config: Path | None) -> None:
    """Give the waiting JOB the priority N, 0 (first) to 9 (last).

    It keeps its place among jobs of the same priority, its tries and its log.
    """
    before = requests.set_priority(spool_of(read_config(config)).folder, unprintable(job), number)
    output.say(f"{printable(unprintable(job))}: priority {number}" + (", as it was" if before == number else f" (was {before})"))


def each(jobs: Sequence[str], config: Path | None, action: _Action, done: str) -> int:
    """Do it to every job; one that cannot be does not keep the others from it. The exit code of the last refusal, or 0."""
    spool = spool_of(read_config(config)).folder
    code = ExitCode.DONE
    for job in jobs:
        try:
            action(spool, unprintable(job))
        except PhdError as error:
            output.complain(str(error))
            code = error.exit_code
        else:
            output.say(f"{printable(unprintable(job))}: {done}")
    return code
