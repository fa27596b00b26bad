"""When a pass is due: restarts, missed passes, and clocks that jump."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.replication.schedule import Timer, last_start, note_start, start_file

HOUR = 3600.0


class Wall:
    """A wall clock and a monotonic one."""

    def __init__(self, folder: Path) -> None:
        self.now, self.monotonic = 1.8e9, 500.0
        self.path = start_file(folder)

    def timer(self) -> Timer:
        return Timer(self.path, clock=lambda: self.now, monotonic=lambda: self.monotonic)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds

    def start(self, timer: Timer) -> None:
        timer.started()
        note_start(self.path, self.now)


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    return Wall(tmp_path)


def test_the_first_pass_is_due_at_once_and_the_next_an_hour_after_the_start(wall: Wall) -> None:
    timer = wall.timer()
    assert timer.due_in(HOUR) == 0.0
    wall.start(timer)
    assert timer.due_in(HOUR) == pytest.approx(HOUR)
    wall.passes(HOUR - 1)
    assert timer.due_in(HOUR) == pytest.approx(1)
    wall.passes(1)
    assert timer.due_in(HOUR) == 0.0


def test_a_restart_neither_repeats_nor_forgets(wall: Wall) -> None:
    wall.start(wall.timer())
    wall.passes(600)
    assert wall.timer().due_in(HOUR) == pytest.approx(3000)


def test_missed_passes_are_made_up_for_once(wall: Wall) -> None:
    wall.start(wall.timer())
    wall.passes(50 * HOUR)
    timer = wall.timer()
    assert timer.due_in(HOUR) == 0.0
    wall.start(timer)
    assert timer.due_in(HOUR) == pytest.approx(HOUR)


@pytest.mark.parametrize("step", [-50 * HOUR, -7200.0])
def test_a_clock_set_back_makes_it_due_once(wall: Wall, step: float) -> None:
    timer = wall.timer()
    wall.start(timer)
    wall.passes(120)
    wall.now += step
    assert timer.due_in(HOUR) == 0.0
    wall.start(timer)
    assert timer.due_in(HOUR) == pytest.approx(HOUR)


def test_a_clock_that_goes_wild_starts_no_storm(wall: Wall) -> None:
    timer = wall.timer()
    starts = 0
    for turn in range(600):
        wall.passes(1)
        wall.now += 9999 if turn % 2 else -20000
        if timer.due_in(HOUR) == 0.0:
            starts += 1
            wall.start(timer)
    assert starts <= 11


def test_when_the_start_cannot_be_noted_a_minute_lies_between(wall: Wall) -> None:
    timer = wall.timer()
    timer.started()
    assert timer.due_in(HOUR) == pytest.approx(60)
    assert timer.due_in(5) == pytest.approx(5)


def test_a_person_need_not_wait(wall: Wall) -> None:
    timer = wall.timer()
    wall.start(timer)
    timer.trigger()
    assert timer.due_in(HOUR) == 0.0
    wall.start(timer)
    assert timer.due_in(HOUR) == pytest.approx(HOUR)


@pytest.mark.parametrize("text", ["", "soon", "nan?"])
def test_a_file_that_says_nothing_is_no_start(wall: Wall, text: str) -> None:
    wall.path.write_text(text)
    assert last_start(wall.path) is None
    assert wall.timer().due_in(HOUR) == 0.0
