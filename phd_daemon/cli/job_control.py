"""`phd hold`, `release`, `cancel`, `retry` and `priority`: the renames a person could do with `mv`, by name of the job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import config_option
from phd_daemon.operations.installation import read_config
from phd_daemon.operations.queue import Act, act, set_priority
from phd_daemon.show import output
from phd_daemon.spool.layout import FINAL, State
from restore_core.errors import ExitCode
from restore_core.naming import printable, unescape_name

_Command = TypeVar("_Command", bound=Callable[..., object])


def jobs_argument(*states: State) -> Callable[[_Command], _Command]:
    """Names of jobs; the shell offers those that are in one of these states."""
    return click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=jobs_in(*states))


@click.command()
@jobs_argument(State.WAITING)
@config_option
def hold(jobs: Sequence[str], config: Path | None) -> int:
    """Park waiting jobs until they are released."""
    return each(jobs, config, Act.HOLD, "held")


@click.command()
@jobs_argument(State.HELD)
@config_option
def release(jobs: Sequence[str], config: Path | None) -> int:
    """Let held jobs wait for their turn again."""
    return each(jobs, config, Act.RELEASE, "released")


@click.command()
@jobs_argument(State.WAITING, State.HELD, State.RUNNING)
@config_option
def cancel(jobs: Sequence[str], config: Path | None) -> int:
    """Cancel jobs that wait or run. What a running one has written is removed."""
    return each(jobs, config, Act.CANCEL, "cancelled")


@click.command()
@jobs_argument(State.WAITING, *FINAL)
@config_option
def retry(jobs: Sequence[str], config: Path | None) -> int:
    """Run finished or rejected jobs again, with the same log; those that wait for their next try, now."""
    return each(jobs, config, Act.RETRY, "waits again")


@click.command()
@click.argument("job", shell_complete=jobs_in(State.WAITING))
@click.argument("number", metavar="N", type=click.IntRange(0, 9))
@config_option
def priority(job: str, number: int, config: Path | None) -> None:
    """Give the waiting JOB the priority N, 0 (first) to 9 (last).

    It keeps its place among jobs of the same priority, its tries and its log.
    """
    before = set_priority(read_config(config), unescape_name(job), number)
    output.say(f"{printable(unescape_name(job))}: priority {number}" + (", as it was" if before == number else f" (was {before})"))


def each(jobs: Sequence[str], config: Path | None, what: Act, done: str) -> int:
    """Does it to every job and says what came of it. Returns the exit code of the last refusal, or 0."""
    code = ExitCode.DONE
    for answer in act(read_config(config), what, map(unescape_name, jobs)):
        if answer.refusal is not None:
            output.complain(str(answer.refusal))
            code = answer.refusal.exit_code
        else:
            output.say(f"{printable(answer.job)}: {done}")
    return code
