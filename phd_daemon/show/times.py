"""Times as a person types and reads them: `22:00`, `2026-11-24 03:00`, `+90m`, `3d` ago.

All are local time of this machine, unless a zone is behind them (`03:00+00:00`). A date alone is a whole day: up to a date means to
the end of that day, from a date on from its begin.
"""

from __future__ import annotations

import datetime as dt
import re
import time

from restore_core.errors import UsageError
from restore_core.naming import printable

ZONE = "Local time; with +00:00 behind it UTC, as tables show it."
"""What the help of every time says of its zone."""

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


def parse_moment(text: str, now: dt.datetime, *, end_of_day: bool) -> dt.datetime:
    """Returns a time in the past: a date, a date and a time, or `3d`, `12h` ago. Raises `UsageError`.

    A date alone is the whole of that day here: it means the last moment with `end_of_day`, else the first.
    """
    try:
        if match := _AGO.match(text):
            return now - dt.timedelta(minutes=int(match[1]) * _MINUTES[match[2]])
        if (day := _day(text)) is None:
            return _exact(text)
        midnight = dt.time()
        if not end_of_day:
            return dt.datetime.combine(day, midnight).astimezone()
        return dt.datetime.combine(day + dt.timedelta(days=1), midnight).astimezone() - dt.timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{printable(text)}' is not a date and a time",
            remedy='Write "2026-11-24 03:00", a date alone for the whole day, or 3d, 12h ago.',
        ) from None


def parse_stamp(text: str) -> dt.datetime:
    """Returns the time of a backup, which has a date and a time of day. Raises `UsageError`."""
    try:
        if _day(text) is None:
            return _exact(text)
    except (ValueError, OverflowError):
        pass
    remedy = 'Write both: "2026-11-24 03:00", or with seconds "2026-11-24 03:00:30".'
    raise UsageError(f"'{printable(text)}' is not a date and a time", remedy=remedy)


def _exact(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.astimezone()


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def minute(seconds: float) -> str:
    """Returns a time (seconds since the epoch) to the minute: `2026-11-24 03:00`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def age(seconds: float) -> str:
    """Returns a duration, short: `7 min`, `3 h`, `12 d`."""
    minutes = max(0, int(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
