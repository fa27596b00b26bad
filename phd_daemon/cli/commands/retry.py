"""`phd retry JOB...`: runs finished or rejected jobs again."""

from __future__ import annotations

from phd_daemon.cli.job_acts import command_on_jobs
from phd_daemon.spool.layout import Act, State

retry = command_on_jobs(
    Act.RETRY,
    "waits again",
    "Run finished or rejected jobs again, with the same log; those that wait for their next try, now.",
    State.WAITING,
)
