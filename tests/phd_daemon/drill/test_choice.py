"""A VM by chance: those that were drilled long ago, or never, have the better chances."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter

from phd_daemon.drill.choice import choose, weights

NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
A, B, C = ("a", "1"), ("b", "2"), ("c", "")


def test_one_that_was_never_drilled_has_more_days_than_all_others() -> None:
    found = {one.machine: one.days for one in weights([C, A, B], {A: NOW - 10 * DAY, B: NOW - 400 * DAY}, NOW)}
    assert found == {A: 10, B: 400, C: 765}


def test_nobody_is_left_out_for_ever_and_a_clock_that_went_back_gives_no_negative_chance() -> None:
    found = weights([A, B], {A: NOW + 3 * DAY, B: NOW}, NOW)
    assert all(one.days > 0 for one in found)


def test_chances_follow_the_days() -> None:
    weighted = weights([A, B], {A: NOW - 1 * DAY, B: NOW - 9 * DAY}, NOW)
    dice = random.Random(1)
    counts = Counter(choose(weighted, dice) for _ in range(1000))
    assert 850 < counts[B] < 950


def test_a_vm_that_was_drilled_and_is_gone_is_not_taken() -> None:
    assert [one.machine for one in weights([A], {B: NOW - DAY}, NOW)] == [A]
