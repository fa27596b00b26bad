"""How many bytes all clients together may have asked for and not yet taken: a bound for the memory of the server.

One client has half of it at most, unless a single request is larger: one that takes no replies leaves room for the others.
"""

from __future__ import annotations

import threading

LIMIT = 64 << 20
"""Bytes in flight, of all clients together."""
ALWAYS = 4 << 20
"""A client that has nothing in flight may ask for so much whatever the others have: nobody can keep it from being served."""


class Share:
    """What one client has in flight."""

    def __init__(self) -> None:
        self.held = 0
        self.over = False


class InFlight:
    """The bytes in flight. A client that wants more than there is room for waits, and its later requests with it."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()

    def enter(self, share: Share, cost: int) -> int:
        """Waits until there is room; returns the bytes that were taken, for `leave`. 0 if the client is over."""
        cost = min(max(cost, 1), self._limit)
        with self._changed:
            while not share.over:
                alone = share.held == 0
                fits = self._held + cost <= self._limit and (alone or share.held + cost <= self._limit // 2)
                if fits or (alone and cost <= ALWAYS):
                    share.held += cost
                    self._held += cost
                    return cost
                self._changed.wait()
        return 0

    def leave(self, share: Share, taken: int) -> None:
        """Gives back what `enter` took."""
        with self._changed:
            share.held -= taken
            self._held -= taken
            self._changed.notify_all()

    def drain(self, share: Share, seconds: float) -> None:
        """Waits, at most so long, until the client has taken all that it asked for, or is over."""
        with self._changed:
            self._changed.wait_for(lambda: share.held == 0 or share.over, seconds)

    def end(self, share: Share) -> None:
        """Lets the client wait no longer."""
        with self._changed:
            share.over = True
            self._changed.notify_all()
