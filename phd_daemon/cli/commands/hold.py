"""`phd hold JOB...`: parks waiting jobs until they are released."""

from __future__ import annotations

from phd_daemon.cli.job_acts import command_on_jobs
from phd_daemon.spool.layout import Act

hold = command_on_jobs(Act.HOLD, "held", "Park waiting jobs until they are released.")
