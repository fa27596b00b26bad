"""What `phd hold`, `release`, `cancel` and `retry` share: they do one thing to each job that is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import jobs_in
from phd_daemon.cli.options import Command, command, config_option
from phd_daemon.cli.questions import ask_on_a_terminal, must_ask, yes_option
from phd_daemon.operations.installation import job_named, read_config
from phd_daemon.operations.queue import act
from phd_daemon.show import output
from phd_daemon.spool.layout import Act, State, allowing
from restore_core.errors import ExitCode
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

Asks = Callable[["Config", Sequence[str]], str]


def command_on_jobs(what: Act, done: str, text: str, *also: State, question: Asks | None = None) -> Command:
    """Makes the command of this act, with `text` as its help. The shell offers jobs in states that allow it or are in `also`.

    It says `done` of each job. Its exit code is that of the last refusal, or 0. `question` returns what a person at a terminal
    is asked before, empty if nothing would be lost.
    """

    @click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=jobs_in(*also, *allowing(what)))
    @config_option
    def act_on_jobs(jobs: Sequence[str], *, config: Path | None, yes: bool = False) -> int:
        settings, code = read_config(config), ExitCode.DONE
        names = [job_named(settings, job) for job in jobs]
        if question is not None and must_ask(yes=yes) and (asked := question(settings, names)):
            ask_on_a_terminal(asked, yes=yes, otherwise=f"no job was {done}")
        for answer in act(settings, what, names):
            if answer.refusal is not None:
                output.complain(str(answer.refusal))
                code = answer.refusal.exit_code
            else:
                output.say(f"{printable(answer.job)}: {done}")
        return code

    act_on_jobs.__name__, act_on_jobs.__doc__ = what.value, text
    return command(stays_done=True)(yes_option()(act_on_jobs) if question is not None else act_on_jobs)
