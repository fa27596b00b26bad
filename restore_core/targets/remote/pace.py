"""Bandwidth and minimum rate, as wrappers round the line itself.

The line is the one place that sees every piece as it comes: a drip inside one large answer would be invisible from above.

Only time spent waiting for the server counts against it. A slow disk on our side, or our own bandwidth limit, does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from restore_core.errors import TargetUnavailable
from restore_core.targets.base import ServerLimits

_BURST = 0.1
"""Seconds of bandwidth that may come at once: more would not be a limit, less would sleep a thousand times a second."""


class Bandwidth:
    """A limit that all connections to one target share. `rate` is bytes a second; 0 is none."""

    def __init__(
        self, rate: int, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._lock = threading.Lock()
        self._paid_until = 0.0

    def spend(self, count: int) -> None:
        """Sleep as long as `count` more bytes are too early."""
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - _BURST) + count / self._rate
            pause = self._paid_until - now
        if pause > 0:
            self._sleep(pause)


class Pace:
    """Watches one connection: `moved` is told every piece, with the seconds that were spent waiting for it."""

    def __init__(self, name: str, limits: ServerLimits, bandwidth: Bandwidth) -> None:
        self._name, self._limits, self._bandwidth = name, limits, bandwidth
        self._bytes, self._waited = 0, 0.0

    def moved(self, count: int, waited: float) -> None:
        """Raises `TargetUnavailable` when a whole window was slower than the minimum rate."""
        self._bytes += count
        self._waited += waited
        if self._waited >= self._limits.rate_window:
            rate = self._bytes / self._waited
            self._bytes, self._waited = 0, 0.0
            if rate < self._limits.minimum_rate:
                raise TargetUnavailable(
                    f"target {self._name}: too slow: {rate / 1024:.1f} KB/s over {self._limits.rate_window:.0f} s,"
                    f" at least {self._limits.minimum_rate / 1024:.0f} KB/s are needed",
                    remedy="Look at the server's load and at the network between; the job is tried again later.",
                )
        self._bandwidth.spend(count)
