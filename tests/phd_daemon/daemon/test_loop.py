"""The guard around each step of the main loop, and observers that fail."""

from __future__ import annotations

import pytest

from phd_daemon.daemon.loop import Guard, observer_that_cannot_fail
from phd_daemon.spool.events import BugFound, Event, PassStarted


def test_an_error_that_nobody_expected_is_reported_and_ends_there() -> None:
    told: list[Event] = []
    error = KeyError("k")
    with Guard(told.append)("turn", "crm"):
        raise error
    assert told == [
        BugFound(error=error, message="a bug of ours, or something unheard of; all else goes on", step="turn", name="crm")
    ]


def test_what_ends_a_process_is_not_caught() -> None:
    with pytest.raises(SystemExit), Guard(lambda _: None)("turn"):
        raise SystemExit


def test_an_observer_that_fails_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_event: Event) -> None:
        raise RuntimeError("planted")

    with Guard(observer_that_cannot_fail(fails))("turn"):
        observer_that_cannot_fail(fails)(PassStarted(pid=1))
        raise KeyError
    assert [line.__dict__["of"] for line in caplog.records] == ["PassStarted", "BugFound"]
    assert "planted" in caplog.text
