"""`phd cancel JOB...`: cancels jobs that wait or run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phd_daemon.cli.job_acts import act_on, jobs_argument
from phd_daemon.cli.options import command, config_option
from phd_daemon.spool.layout import Act, allowing


@command(stays_done=True)
@jobs_argument(*allowing(Act.CANCEL))
@config_option
def cancel(jobs: Sequence[str], config: Path | None) -> int:
    """Cancel jobs that wait or run. What a running one has written is removed."""
    return act_on(jobs, config, Act.CANCEL, "cancelled")
