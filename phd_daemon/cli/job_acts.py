"""What `phd hold`, `release`, `cancel` and `retry` share: they do one thing to each job that is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.operations.installation import read_config
from phd_daemon.operations.queue import act
from phd_daemon.show import output
from phd_daemon.spool.layout import Act, State
from restore_core.errors import ExitCode
from restore_core.naming import printable, unescape_name

_Command = TypeVar("_Command", bound=Callable[..., object])


def jobs_argument(*states: State) -> Callable[[_Command], _Command]:
    """Names of jobs; the shell offers those that are in one of these states."""
    return click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=jobs_in(*states))


def act_on(jobs: Sequence[str], config: Path | None, what: Act, done: str) -> int:
    """Does it to every job and says what came of it. Returns the exit code of the last refusal, or 0."""
    code = ExitCode.DONE
    for answer in act(read_config(config), what, map(unescape_name, jobs)):
        if answer.refusal is not None:
            output.complain(str(answer.refusal))
            code = answer.refusal.exit_code
        else:
            output.say(f"{printable(answer.job)}: {done}")
    return code
