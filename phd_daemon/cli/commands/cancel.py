"""`phd cancel JOB...`: cancels jobs that wait or run."""

from __future__ import annotations

from phd_daemon.cli.job_acts import command_on_jobs
from phd_daemon.spool.layout import Act

cancel = command_on_jobs(Act.CANCEL, "cancelled", "Cancel jobs that wait or run. What a running one has written is removed.")
