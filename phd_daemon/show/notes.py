"""The `Reporter` of commands that read a disk at random: its notes are lines, and it has no progress."""

from __future__ import annotations

from phd_daemon.show import output
from restore_core.restore.request import PlanSummary, Progress


class DamageNotes:
    """Says nothing while the archives are opened, which tells how the Full was found; after `opened`, what is said is damage."""

    def __init__(self) -> None:
        self._is_open = False

    def opened(self) -> None:
        """From now on notes are shown."""
        self._is_open = True

    def note(self, text: str) -> None:
        """Shows a line."""
        if self._is_open:
            output.complain(text)

    def planned(self, plan: PlanSummary) -> None:
        """Nothing is planned."""
        del plan

    def progress(self, progress: Progress) -> None:
        """Nothing is shown."""
        del progress
