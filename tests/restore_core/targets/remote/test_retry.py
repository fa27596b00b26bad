"""Retry and pace, without a server and without a clock."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from threading import Event
from typing import Any, ClassVar

import pytest

from restore_core.errors import ArchiveAbsent, BadArchive, PhdError, TargetRefused, TargetUnavailable
from restore_core.targets.base import Buffer, FileStat, Range, ServerLimits
from restore_core.targets.remote.connection import Bandwidth, KnownFile, Pace
from restore_core.targets.remote.server import Server

LIMITS = ServerLimits(tries=4, first_pause=1.0, longest_pause=3.0, progress=100)
STAT = FileStat(size=1000, mtime=0.0)
KNOWN = KnownFile(stat=STAT)


class Flaky:
    """Delivers `runs[n]` ranges in its n-th stream, then fails; `ahead` ranges are read before the first is delivered."""

    def __init__(self, runs: list[int], error: PhdError | None = None, ahead: int = 0) -> None:
        self.runs, self.error, self.ahead = runs, error or TargetUnavailable("broke"), ahead
        self.calls = 0
        self.asked: list[list[Range]] = []

    def stat(self, path: str) -> FileStat:
        del path
        self.calls += 1
        if self.calls <= len(self.runs):
            raise self.error
        return STAT

    def ranges(self, path: str, known: KnownFile, wanted: Iterator[Range]) -> Generator[Buffer]:
        del path, known
        good = self.runs[self.calls] if self.calls < len(self.runs) else 1 << 60
        self.calls += 1
        self.asked.append([])
        held: list[Range] = []
        for number, each in enumerate(wanted):
            if number >= good + self.ahead:
                raise self.error
            self.asked[-1].append(each)
            held.append(each)
            if len(held) > self.ahead:
                yield bytes(held.pop(0)[1])
        for each in held:
            yield bytes(each[1])


class OneConnection:
    """A pool that lends the same connection every time."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @contextlib.contextmanager
    def lend(self, path: str = "", over: Event | None = None) -> Iterator[Any]:
        del path, over
        yield self.connection


def retrying(connection: Any, pauses: list[float] | None = None) -> Server:
    pool: Any = OneConnection(connection)
    return Server(pool, LIMITS, sleep=(pauses if pauses is not None else []).append)


def test_pauses_double_are_capped_and_jittered() -> None:
    pauses: list[float] = []
    assert retrying(Flaky([0, 0, 0]), pauses).stat("x") == STAT
    assert [low <= pause <= 2 * low for low, pause in zip((0.5, 1.0, 1.5), pauses, strict=True)] == [True] * 3


def test_a_few_tries_then_the_error() -> None:
    flaky = Flaky([0] * 9)
    with pytest.raises(TargetUnavailable):
        retrying(flaky).stat("x")
    assert flaky.calls == LIMITS.tries


@pytest.mark.parametrize("error", [ArchiveAbsent("gone"), TargetRefused("no"), BadArchive("bad")])
def test_what_cannot_heal_is_not_repeated(error: PhdError) -> None:
    flaky = Flaky([0] * 9, error)
    with pytest.raises(type(error)):
        retrying(flaky).stat("x")
    assert flaky.calls == 1


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_stream_goes_on_at_the_first_range_not_delivered(ahead: int) -> None:
    plan = [(at * 10, 10) for at in range(9)]
    flaky = Flaky([2, 0, 3], ahead=ahead)
    found = list(retrying(flaky).ranges("x", KNOWN, iter(plan), Event()))
    assert [len(data) for data in found] == [10] * 9
    assert [asked[0] for asked in flaky.asked if asked] == [plan[at] for at in ((0, 2, 2, 5) if ahead else (0, 2, 5))]
    assert flaky.asked[-1] == plan[5:]


def test_a_walk_goes_on_after_the_last_folder_delivered() -> None:
    class Walker:
        calls: ClassVar[list[tuple[str, ...]]] = []

        def walk(self, folders: tuple[str, ...], budget: object) -> Iterator[tuple[str, list[object]]]:
            del budget
            self.calls.append(folders)
            for folder in folders:
                if folder == "gone":
                    continue
                yield folder, []
                if folder in ("b", "c") and len(self.calls) < 3:
                    raise TargetUnavailable("broke")

    walker: Any = Walker()
    found = [folder for folder, _ in retrying(walker).walk(["a", "gone", "b", "c", "gone", "d"], None)]  # type: ignore[arg-type]  # no budget is needed
    assert found == ["a", "b", "c", "d"]
    assert walker.calls[1:] == [("c", "gone", "d"), ("gone", "d")]


def test_progress_earns_new_tries() -> None:
    plan = [(at, 60) for at in range(40)]
    assert len(list(retrying(Flaky([2] * 15)).ranges("x", KNOWN, iter(plan), Event()))) == 40
    with pytest.raises(TargetUnavailable):
        list(retrying(Flaky([1] * 15)).ranges("x", KNOWN, iter(plan), Event()))


def test_an_error_of_the_plan_is_not_the_servers() -> None:
    def plan() -> Iterator[Range]:
        yield (0, 1)
        raise TargetUnavailable("the map cannot be read")

    flaky = Flaky([])
    with pytest.raises(TargetUnavailable, match="the map"):
        list(retrying(flaky).ranges("x", KNOWN, plan(), Event()))
    assert flaky.calls == 1


def test_no_more_tries_once_it_is_over() -> None:
    over = Event()
    over.set()
    flaky = Flaky([0] * 9)
    with pytest.raises(TargetUnavailable):
        list(retrying(flaky).ranges("x", KNOWN, iter([(0, 1)]), over))
    assert flaky.calls == 1


def test_bandwidth_is_paid_in_time() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    limit = Bandwidth(1000, clock=lambda: now[0], sleep=sleep)
    for _ in range(100):
        limit.spend(100)
    assert sum(slept) == pytest.approx(100 * 100 / 1000, abs=0.2)
    Bandwidth(0, sleep=sleep).spend(1 << 40)
    assert sum(slept) < 11


def test_only_waiting_counts_against_the_minimum_rate() -> None:
    limits = ServerLimits(minimum_rate=1000, rate_window=10.0)
    pace = Pace("nas", limits, Bandwidth(0))
    for _ in range(100):
        pace.moved(1, 0.0)  # we were slow, not the server
    for _ in range(30):
        pace.moved(1100, 1.0)
    for _ in range(9):
        pace.moved(900, 1.0)
    with pytest.raises(TargetUnavailable, match=r"target nas: too slow: 0\.9 KB/s over 10 s"):
        pace.moved(900, 1.0)
