"""Times as people type them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

import pytest

from phd_daemon.show.times import parse_moment, parse_stamp, parse_time
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


@pytest.mark.parametrize("text", ["22:00", "+2h", "yesterday", "2026-13-01", "", "999999d" * 2])
@pytest.mark.parametrize("end_of_day", [True, False])
def test_what_is_no_moment_in_the_past(text: str, end_of_day: bool) -> None:
    with pytest.raises(UsageError, match="is not a date and a time") as caught:
        parse_moment(text, NOW, end_of_day=end_of_day)
    assert "2026-11-24 03:00" in caught.value.remedy


@pytest.fixture
def vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("vienna")
@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026-11-24", "2026-11-24T00:00+01:00", "2026-11-25T00:00+01:00"),
        ("20261124", "2026-11-24T00:00+01:00", "2026-11-25T00:00+01:00"),
        ("2026-03-29", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        ("2026-10-25", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
    ],
)
def test_a_date_alone_is_a_whole_local_day_also_when_the_clock_changes(text: str, begin: str, end: str) -> None:
    assert parse_moment(text, NOW, end_of_day=False) == dt.datetime.fromisoformat(begin)
    assert parse_moment(text, NOW, end_of_day=True) == dt.datetime.fromisoformat(end) - dt.timedelta(microseconds=1)


@pytest.mark.parametrize("end_of_day", [True, False])
def test_a_time_and_an_age_mean_the_same_up_to_and_from_on(end_of_day: bool) -> None:
    assert parse_moment("2026-11-24 03:00+00:00", NOW, end_of_day=end_of_day) == dt.datetime(2026, 11, 24, 3, tzinfo=dt.UTC)
    assert parse_moment("3d", NOW, end_of_day=end_of_day) == NOW - dt.timedelta(days=3)


def test_the_time_of_a_backup_has_a_time_of_day() -> None:
    assert parse_stamp("2026-11-24 03:00") == dt.datetime.fromisoformat("2026-11-24 03:00").astimezone()
    for text in ("2026-11-24", "22:00", "+2h", "yesterday", "20261124"):
        with pytest.raises(UsageError, match="is not a date and a time"):
            parse_stamp(text)
