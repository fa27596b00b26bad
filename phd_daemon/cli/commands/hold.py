"""`phd hold JOB...`: parks waiting jobs until they are released."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phd_daemon.cli.job_acts import act_on, jobs_argument
from phd_daemon.cli.options import command, config_option
from phd_daemon.spool.layout import Act, allowing


@command(stays_done=True)
@jobs_argument(*allowing(Act.HOLD))
@config_option
def hold(jobs: Sequence[str], config: Path | None) -> int:
    """Park waiting jobs until they are released."""
    return act_on(jobs, config, Act.HOLD, "held")
