"""Bugs for R20: days are counted on the calendar, hours on the wall."""

from __future__ import annotations

import datetime as dt
from typing import Any

from phd_daemon.replication import schedule
from restore_core.replication import selection


def a_day_is_a_date() -> None:
    """-N goes back N dates instead of N times 24 hours."""
    setattr(selection, "DAY", dt.timedelta(hours=23))  # noqa: B010  mypy forbids the plain form


def the_wall_clock_alone() -> None:
    """A start that lies in the future is waited for."""

    def due_in(self: Any, every: float) -> float:
        last = schedule.last_start(self._path)
        return 0.0 if last is None else max(0.0, last + every - self._clock())

    setattr(schedule.Timer, "due_in", due_in)  # noqa: B010  the same
