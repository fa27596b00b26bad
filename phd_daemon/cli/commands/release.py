"""`phd release JOB...`: lets held jobs wait for their turn again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phd_daemon.cli.job_acts import act_on, jobs_argument
from phd_daemon.cli.options import command, config_option
from phd_daemon.spool.layout import Act, allowing


@command(stays_done=True)
@jobs_argument(*allowing(Act.RELEASE))
@config_option
def release(jobs: Sequence[str], config: Path | None) -> int:
    """Let held jobs wait for their turn again."""
    return act_on(jobs, config, Act.RELEASE, "released")
