"""Times as a person types and reads them: `22:00`, `2026-11-24 03:00`, `+90m`, `3d` ago. All are local time."""

from __future__ import annotations

import datetime as dt
import re
import time

from restore_core.errors import UsageError
from restore_core.naming import printable

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})\Z")
_AFTER = re.compile(r"\+(\d{1,6})([mhd])\Z")
_AGO = re.compile(r"(\d{1,6})([mhd])\Z")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


def parse_time(text: str, now: dt.datetime) -> dt.datetime:
    """Returns the aware time that `text` means; `now` is aware. `HH:MM` is the next such time. Raises `UsageError`."""
    try:
        if match := _AFTER.match(text):
            return now + dt.timedelta(minutes=int(match[1]) * _MINUTES[match[2]])
        if match := _CLOCK.match(text):
            # Without a zone and back again, so that the clock shows 22:00 also after a change of summer time.
            today = now.replace(tzinfo=None, hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
            wall = today if today > now.replace(tzinfo=None) else today + dt.timedelta(days=1)
            return wall.astimezone()
        return _exact(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{printable(text)}' is not a time", remedy='Write 22:00, "2026-11-24 03:00", or +90m, +2h, +1d from now.'
        ) from None


def parse_date(text: str) -> dt.datetime:
    """Returns a date, with or without a time of day, as an aware time. Raises `UsageError`."""
    try:
        return _exact(text)
    except (ValueError, OverflowError):
        remedy = 'Write it as "2026-11-24 03:00".'
        raise UsageError(f"'{printable(text)}' is not a date and a time", remedy=remedy) from None


def _exact(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.astimezone()


def parse_moment(text: str, now: dt.datetime, *, end_of_day: bool = False) -> dt.datetime:
    """Returns a time in the past: a date, a date and a time, or `3d`, `12h` ago. Raises `UsageError`.

    A date alone means its first moment, or its last one with `end_of_day`.
    """
    if match := _AGO.match(text):
        return now - dt.timedelta(minutes=int(match[1]) * _MINUTES[match[2]])
    found = parse_date(text)
    whole_day = end_of_day and len(text) <= len("2026-11-24")
    return found + dt.timedelta(days=1) - dt.timedelta(microseconds=1) if whole_day else found


def minute(seconds: float) -> str:
    """Returns a time (seconds since the epoch) to the minute: `2026-11-24 03:00`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def age(seconds: float) -> str:
    """Returns a duration, short: `7 min`, `3 h`, `12 d`."""
    minutes = max(0, int(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
