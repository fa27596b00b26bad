"""How long a server may keep us waiting, and how much it may make us hold. One place for all of these numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, bytes, and bytes a second. The defaults are for real servers; tests use shorter ones."""

    connect: float = 15.0
    login: float = 30.0
    idle: float = 30.0
    """Without a single byte, while we wait for one. A stopped server and a black hole end here."""

    minimum_rate: int = 64 << 10
    rate_window: float = 60.0
    """Waiting this long for bytes that came slower than `minimum_rate` on average is given up: a drip never ends by itself."""

    tries: int = 4
    """Attempts at one operation, the first included. A stream that moved `progress` bytes starts to count anew."""

    first_pause: float = 0.5
    longest_pause: float = 15.0
    progress: int = 8 << 20

    listing_entries: int = 2_000_000
    listing_bytes: int = 1 << 30
    listing_seconds: float = 900.0


DEFAULT = Limits()
