"""When a pass is due, without cron: from the persisted time of the last start, by the wall clock, bounded by a monotonic one.

A pass that was missed while nobody ran is made up for once, not once an hour missed. A clock that was set back makes a pass
due at once, never a year late; and whatever the wall clock or the file says, two starts are at least a minute apart
(or `every`, if that is less) unless a person asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from restore_core import durable
from restore_core.plain import read_plain

_APART = 60.0
_SLACK = 1.0
_MOST = 64


def start_file(state_dir: Path) -> Path:
    """Holds when the last pass was started."""
    return state_dir / "replicate.started"


class Timer:
    """`path` holds the time of the last start, whoever started it (the daemon, or a person)."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._clock, self._monotonic = path, clock, monotonic
        self._own: float | None = None
        self._asked = False

    def trigger(self) -> None:
        """A person asks for a pass now."""
        self._asked = True

    def due_in(self, every: float) -> float:
        """Seconds until the next start; 0.0 is now."""
        if self._asked:
            return 0.0
        now, last = self._clock(), last_start(self._path)
        by_wall = 0.0 if last is None or last > now + _SLACK else last + every - now
        by_own = 0.0 if self._own is None else self._own + min(_APART, every) - self._monotonic()
        return max(by_wall, by_own, 0.0)

    def started(self) -> None:
        """A pass has been started from here."""
        self._asked, self._own = False, self._monotonic()


def last_start(path: Path) -> float | None:
    """When the last pass was started, in seconds since the epoch; None if there was none that we know of."""
    try:
        return float(read_plain(path, _MOST))
    except (OSError, ValueError):
        return None


def note_start(path: Path, now: float) -> None:
    """A pass starts. Durable: a restart right after must not start another. Raises `OSError`."""
    durable.write_whole(path, f"{now:.3f}\n".encode())
