"""`phd release JOB...`: lets held jobs wait for their turn again."""

from __future__ import annotations

from phd_daemon.cli.job_acts import command_on_jobs
from phd_daemon.spool.layout import Act

release = command_on_jobs(Act.RELEASE, "released", "Let held jobs wait for their turn again.")
