"""How far a restore is, as the line of 2007 and as numbers for `JOB.status`.

    Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 04:14s

`mb` is 1024 x 1024 bytes of the finished disk. Blocks that are kept or zero count as done, but not into the rate, and
the remaining time is that of the bytes which still have to be moved. After the last block comes the phase instead of
the rate: a line that says 100 % for minutes would be a lie.
"""

from __future__ import annotations

import re

from phd_daemon.spool.status_file import LiveProgress
from restore_core.restore.request import Phase, Progress

_MB = 1 << 20
_MOVING = (Phase.RESTORE, Phase.VERIFY)


def live(progress: Progress, *, now: float) -> LiveProgress:
    """The numbers at `now` (`time.monotonic()`)."""
    elapsed = max(now - progress.started, 0.0)
    rate = progress.moved / elapsed if elapsed > 0 else 0.0
    left = progress.to_move - progress.moved
    remaining = left / rate if rate > 0 else None
    if left <= 0:
        remaining = 0.0 if progress.phase in (*_MOVING, Phase.PUBLISH) else None
    return LiveProgress(
        phase=progress.phase.value,
        percent=round(_percent(progress.done, progress.disk_size), 1),
        done=progress.done,
        total=progress.disk_size,
        rate=rate,
        elapsed=elapsed,
        remaining=remaining,
        line=_line(progress, elapsed=elapsed, rate=rate, remaining=remaining),
    )


def full_line(*, done: int, elapsed: float, current_rate: float) -> str:
    """The line of a Full restore, whose end is not known: `405 MB processed Avg(15.0 MB/s) Cur(13.7 MB/s)`."""
    average = done / elapsed / _MB if elapsed > 0 else 0.0
    return f"{done // _MB} MB processed Avg({average:.1f} MB/s) Cur({current_rate / _MB:.1f} MB/s)"


def shortened(line: str, width: int) -> str:
    """A line of a Delta restore in `width` characters, for where a longer one would be cut or folded: its end stays whole.

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
    """`01:50`, and `2:01:50` from an hour on."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def _line(progress: Progress, *, elapsed: float, rate: float, remaining: float | None) -> str:
    delta = int(_percent(progress.delta_done, progress.delta_total))
    full = int(_percent(progress.full_done, progress.full_total))
    amount = f"Delta: {delta}% Full: {full}%, {progress.done // _MB} mb of {progress.disk_size // _MB} mb"
    if progress.phase not in _MOVING:
        return f"{amount}, {progress.phase.value}, Elapsed: {clock(elapsed)}s"
    left = "--:--" if remaining is None else clock(remaining)
    return f"{amount}, at {_meg(rate)} meg/sec, Elapsed: {clock(elapsed)}s Remain: {left}s"


def _meg(rate: float) -> str:
    """Whole ones; below one of them with a digit that says something."""
    rate /= _MB
    return f"{rate:.0f}" if rate >= 1 or rate == 0 else f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2f}"


def _percent(done: int, total: int) -> float:
    return 100.0 * done / total if total else 100.0
