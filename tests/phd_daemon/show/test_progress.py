"""The line of 2007, number for number."""

from __future__ import annotations

import pytest

from phd_daemon.show.progress import clock, full_line, shortened
from phd_daemon.worker.report import live
from restore_core.restore.request import Phase, Progress

MB = 1 << 20


def progress(**changes: object) -> Progress:
    values: dict[str, object] = {
        "phase": Phase.RESTORE,
        "disk_size": 4096 * MB,
        "done": 1300 * MB,
        "moved": 1210 * MB,
        "delta_done": 67 * MB,
        "delta_total": 100 * MB,
        "full_done": 1143 * MB,
        "full_total": 3500 * MB,
        "started": 0.0,
    }
    return Progress(**{**values, **changes})  # type: ignore[arg-type]  # names of fields


def test_the_line_of_the_readme() -> None:
    # 110 s at 11 MB/s moved 1210 MB; 2390 of 3600 are left.
    assert live(progress(), now=110.0).line == (
        "Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 03:37s"
    )


def test_skipped_blocks_are_done_but_not_in_the_rate() -> None:
    numbers = live(progress(done=4000 * MB, moved=0, delta_done=0, full_done=0), now=10.0)
    assert (numbers.rate, numbers.remaining) == (0.0, None)
    assert numbers.percent == 97.7
    assert numbers.line.endswith("at 0 meg/sec, Elapsed: 00:10s Remain: --:--s")


def test_after_the_last_block_the_phase_is_named_instead_of_a_rate() -> None:
    done = progress(phase=Phase.FLUSH, done=4096 * MB, moved=3600 * MB, delta_done=100 * MB, full_done=3500 * MB)
    numbers = live(done, now=300.0)
    assert numbers.line == "Delta: 100% Full: 100%, 4096 mb of 4096 mb, making it durable, Elapsed: 05:00s"
    assert numbers.remaining is None


def test_an_empty_disk_divides_nothing_by_nothing() -> None:
    empty = progress(disk_size=0, done=0, moved=0, delta_done=0, delta_total=0, full_done=0, full_total=0)
    assert live(empty, now=0.0).line == "Delta: 100% Full: 100%, 0 mb of 0 mb, at 0 meg/sec, Elapsed: 00:00s Remain: 00:00s"


def test_the_line_of_a_full() -> None:
    assert full_line(done=405 * MB, elapsed=27.0, current_rate=13.7 * MB) == "405 MB processed Avg(15.0 MB/s) Cur(13.7 MB/s)"


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00"), (59.9, "00:59"), (3599, "59:59"), (7310, "2:01:50")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(0.6, "0.6"), (0.97, "1.0"), (0.03, "0.03"), (1.0, "1"), (11.4, "11")])
def test_a_slow_line_has_a_rate(rate: float, text: str) -> None:
    assert f", at {text} meg/sec, " in live(progress(moved=int(rate * 100 * MB)), now=100.0).line


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (90, "Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 03:37s"),
        (79, "Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Remain: 03:37s"),
        (60, "Delta: 67% Full: 32%, at 11 meg/sec, Remain: 03:37s"),
        (40, "Delta: 67% Full: 32%, Remain: 03:37s"),
        (20, "Remain: 03:37s"),
        (5, "Remain: 03:37s"),
    ],
)
def test_on_a_narrow_terminal_the_remaining_time_is_whole(width: int, text: str) -> None:
    assert shortened(live(progress(), now=110.0).line, width) == text


def test_on_a_narrow_terminal_the_phase_stays_as_long_as_it_can() -> None:
    line = live(progress(phase=Phase.FLUSH), now=300.0).line
    assert shortened(line, 60) == "Delta: 67% Full: 32%, making it durable, Elapsed: 05:00s"


def test_other_texts_stay_as_they_are() -> None:
    line = full_line(done=405 * MB, elapsed=27.0, current_rate=MB)
    assert shortened(line, 20) == line
