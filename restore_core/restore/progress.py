"""Turns what the pipeline moved into `Progress`."""

from __future__ import annotations

from restore_core.restore.pipeline import Moved
from restore_core.restore.request import Phase, PlanSummary, Progress, Reporter


class ProgressReport:
    """Turns what the pipeline moved into `Progress`. Zero blocks count as done from the start: they cost nothing."""

    def __init__(self, plan: PlanSummary, reporter: Reporter, started: float, phase: Phase = Phase.RESTORE) -> None:
        self._plan, self._reporter, self._started = plan, reporter, started
        self._moved = Moved()
        self._phase = phase

    def tick(self, moved: Moved) -> None:
        """Report."""
        self._moved = moved
        plan = self._plan
        done = moved.delta + moved.full
        self._reporter.progress(
            Progress(
                phase=self._phase,
                disk_size=plan.disk_size,
                done=plan.zero_bytes + plan.keep_bytes + done,
                moved=done,
                delta_done=moved.delta,
                delta_total=plan.delta_bytes,
                full_done=moved.full,
                full_total=plan.full_bytes,
                started=self._started,
            )
        )

    def phase(self, phase: Phase) -> None:
        """Enter a phase, and report."""
        self._phase = phase
        self.tick(self._moved)
