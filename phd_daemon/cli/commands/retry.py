"""`phd retry JOB...`: runs finished or rejected jobs again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phd_daemon.cli.job_acts import act_on, jobs_argument
from phd_daemon.cli.options import command, config_option
from phd_daemon.spool.layout import Act, State, allowing


@command(stays_done=True)
@jobs_argument(State.WAITING, *allowing(Act.RETRY))
@config_option
def retry(jobs: Sequence[str], config: Path | None) -> int:
    """Run finished or rejected jobs again, with the same log; those that wait for their next try, now."""
    return act_on(jobs, config, Act.RETRY, "waits again")
