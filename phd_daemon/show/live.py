"""What a restore in the foreground shows: one line drawn over and over on a terminal, a line every 5 s anywhere else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace

from phd_daemon.show import output
from phd_daemon.show.progress import full_line, live, shortened
from restore_core.restore.request import Phase, PlanSummary, Progress

_REDRAW_EVERY = 0.25
_PRINT_EVERY = 5.0
Line = Callable[[Progress, float], str]


def delta_line(progress: Progress, now: float) -> str:
    """The line of a Delta restore."""
    return live(progress, now=now).line


def redraw(text: str) -> None:
    """Draw it over the last one, shortened where the terminal is too narrow for it."""
    output.redraw(shortened(text, shutil.get_terminal_size().columns - 1))


def at_the_end(progress: Progress) -> Progress:
    """What the last line shows: what was published is a restore that is done, and no phase any more."""
    return replace(progress, phase=Phase.RESTORE) if progress.phase is Phase.PUBLISH else progress


class FullLine:
    """The line of a Full restore; it remembers the last one, for the current rate."""

    def __init__(self) -> None:
        self._done, self._then, self._rate = 0, 0.0, 0.0

    def __call__(self, progress: Progress, now: float) -> str:
        """`405 MB processed Avg(15.0 MB/s) Cur(13.7 MB/s)`."""
        then = self._then or progress.started
        if now > then:
            self._rate = (progress.done - self._done) / (now - then)
        self._done, self._then = progress.done, now
        return full_line(done=progress.done, elapsed=now - progress.started, current_rate=self._rate)


class LiveReport:
    """The `Reporter` of a command in the foreground."""

    def __init__(self, line: Line = delta_line, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._line, self._clock = line, clock
        self._terminal = output.on_a_terminal()
        self._shown = clock()
        self._last: Progress | None = None

    def note(self, text: str) -> None:
        """One line of what was decided."""
        output.say(text)

    def planned(self, plan: PlanSummary) -> None:
        """The plan."""
        output.say(f"Planned: {plan.describe()}")

    def progress(self, progress: Progress) -> None:
        """How far it is; called far more often than it is shown."""
        now = self._clock()
        self._last = progress
        if now - self._shown >= (_REDRAW_EVERY if self._terminal else _PRINT_EVERY):
            self._shown = now
            self._show(progress, now)

    def must_go_on(self) -> bool:
        """Whether the restore is where it cannot be stopped any more."""
        return self._last is not None and self._last.phase in (Phase.APPLY, Phase.PUBLISH)

    def close(self) -> None:
        """Show the last line once more; it stays."""
        if self._last is not None:
            self._show(at_the_end(self._last), self._clock())
            if self._terminal:
                output.say()

    def _show(self, progress: Progress, now: float) -> None:
        text = self._line(progress, now)
        redraw(text) if self._terminal else output.say(text)
