"""`phd cancel JOB...`: cancels jobs that wait or run. Before it stops one that runs it asks, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from phd_daemon.cli.job_acts import command_on_jobs
from phd_daemon.operations.queue import jobs
from phd_daemon.spool.layout import Act, State
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config


def _question(settings: Config, names: Sequence[str]) -> str:
    """Returns a question that names the jobs that run, and how far they are; nothing is lost of those that only wait."""
    running = [view for view in jobs(settings) if view.state is State.RUNNING and view.name in names]
    shown = [printable(view.name) + (f" ({view.progress.percent:.0f}%)" if view.progress else "") for view in running]
    if not shown:
        return ""
    return f"Cancel {', '.join(shown)}, which {'runs' if len(shown) == 1 else 'run'}? What was written so far is removed."


cancel = command_on_jobs(
    Act.CANCEL, "cancelled", "Cancel jobs that wait or run. What a running one has written is removed.", question=_question
)
