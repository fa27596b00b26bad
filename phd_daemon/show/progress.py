"""How far a restore is, as one line.

    Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 04:14s

`mb` is 1024 x 1024 bytes of the finished disk. Blocks that are kept or zero count as done, but not into the rate, and
the remaining time is that of the bytes which still have to be moved. After the last block the line names the phase instead of
the rate: a line that says 100 % for minutes would be wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from restore_core.restore.request import Phase, Progress

_MB = 1 << 20
_MOVING = (Phase.RESTORE, Phase.VERIFY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Seconds since the restore began, bytes per second, and the seconds that remain; None while they are not known."""

    elapsed: float
    rate: float
    remaining: float | None

    @classmethod
    def at(cls, progress: Progress, now: float) -> Self:
        """Returns the speed at `now` (`time.monotonic()`)."""
        elapsed = max(now - progress.started, 0.0)
        rate = progress.moved / elapsed if elapsed > 0 else 0.0
        left = progress.to_move - progress.moved
        remaining = left / rate if rate > 0 else None
        if left <= 0:
            remaining = 0.0 if progress.phase in (*_MOVING, Phase.PUBLISH) else None
        return cls(elapsed=elapsed, rate=rate, remaining=remaining)


def delta_line(progress: Progress, now: float) -> str:
    """Returns the line of a Delta restore."""
    speed = Speed.at(progress, now)
    delta = int(percent(progress.delta_done, progress.delta_total))
    full = int(percent(progress.full_done, progress.full_total))
    amount = f"Delta: {delta}% Full: {full}%, {progress.done // _MB} mb of {progress.disk_size // _MB} mb"
    if progress.phase not in _MOVING:
        return f"{amount}, {progress.phase.value}, Elapsed: {clock(speed.elapsed)}s"
    left = "--:--" if speed.remaining is None else clock(speed.remaining)
    return f"{amount}, at {_meg(speed.rate)} meg/sec, Elapsed: {clock(speed.elapsed)}s Remain: {left}s"


def full_line(*, done: int, elapsed: float, current_rate: float) -> str:
    """Returns the line of a Full restore, whose end is not known: `405 MB processed Avg(15.0 MB/s) Cur(13.7 MB/s)`."""
    average = done / elapsed / _MB if elapsed > 0 else 0.0
    return f"{done // _MB} MB processed Avg({average:.1f} MB/s) Cur({current_rate / _MB:.1f} MB/s)"


def shortened(line: str, width: int) -> str:
    """Returns a line of a Delta restore in `width` characters, for a terminal that would cut or fold it: its end stays whole.

    Left out, one after another until it fits: the elapsed time where a remaining one is known, the megabytes, the rate or
    the phase, the percents. Any other text, and one that fits, stays as it is.
    """
    if len(line) > width and " Remain: " in line:
        line = re.sub(r"Elapsed: \S+ ", "", line)
    parts = line.split(", ")
    for left_out in (1, 1, 0):
        if sum(map(len, parts)) + 2 * (len(parts) - 1) > width and len(parts) > 1:
            del parts[left_out]
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Returns a duration: `01:50`, and `2:01:50` from an hour on."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def percent(done: int, total: int) -> float:
    """Returns how much of `total` is done; nothing at all is done whole."""
    return 100.0 * done / total if total else 100.0


def _meg(rate: float) -> str:
    """Returns whole megabytes; below one of them with a digit that is not 0."""
    rate /= _MB
    return f"{rate:.0f}" if rate >= 1 or rate == 0 else f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2f}"
