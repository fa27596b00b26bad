"""Times as people type them."""

from __future__ import annotations

import datetime as dt

import pytest

from phd_daemon.show.times import parse_date, parse_time
from restore_core.errors import UsageError

NOW = dt.datetime.fromisoformat("2026-11-22 21:30:15").astimezone()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("22:00", "2026-11-22 22:00"),
        ("21:30", "2026-11-23 21:30"),
        ("3:05", "2026-11-23 03:05"),
        ("+90m", "2026-11-22 23:00:15"),
        ("+2h", "2026-11-22 23:30:15"),
        ("+1d", "2026-11-23 21:30:15"),
        ("2026-11-24", "2026-11-24 00:00"),
        ("2026-11-24 03:00", "2026-11-24 03:00"),
    ],
)
def test_local_times(text: str, expected: str) -> None:
    assert parse_time(text, NOW) == dt.datetime.fromisoformat(expected).astimezone()


def test_a_time_with_its_zone() -> None:
    assert parse_time("2026-11-24T03:00+02:00", NOW) == dt.datetime(2026, 11, 24, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "22:61", "+h", "+3w", "2026-13-01", "+999999d" * 2, "22:00:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse_time(text, NOW)


def test_a_date_is_no_time_from_now() -> None:
    assert parse_date("2026-11-24 03:00") == dt.datetime.fromisoformat("2026-11-24 03:00").astimezone()
    for text in ("22:00", "+2h", "yesterday"):
        with pytest.raises(UsageError, match="is not a date and a time"):
            parse_date(text)
