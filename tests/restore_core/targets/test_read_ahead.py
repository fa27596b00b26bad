"""Ranges become requests of a good size and are cut again; a reader's ranges come in order; errors are not lost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import pairwise, tee
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.errors import PhdError, TargetUnavailable
from restore_core.targets.base import Buffer, Range
from restore_core.targets.local import open_local_file
from restore_core.targets.read_ahead import ReadAhead, cut, requests

DATA = bytes(range(256)) * 4
RANGES = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 24)), max_size=12)


@given(RANGES, st.integers(1, 40), st.integers(0, 30))
def test_what_is_cut_is_what_was_asked_for(ranges: list[Range], size: int, gap: int) -> None:
    asked, cutting = tee(iter(ranges))
    sent = list(requests(asked, size=size, gap=gap))
    assert all(0 < length <= size for _, length in sent)
    pieces = iter([(offset, DATA[offset : offset + length]) for offset, length in sent])
    assert list(cut(cutting, pieces)) == [DATA[offset : offset + length] for offset, length in ranges]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 24)), max_size=12), st.integers(1, 40))
def test_nothing_is_asked_for_twice_when_ranges_ascend(steps: list[tuple[int, int]], size: int) -> None:
    at, ranges = 0, []
    for gap, length in steps:
        ranges.append((at + gap, length))
        at += gap + length
    sent = list(requests(iter(ranges), size=size, gap=8))
    assert all(first + length <= second for (first, length), (second, _) in pairwise(sent))
    assert sum(length for _, length in sent) <= sum(length for _, length in ranges) + 8 * len(ranges)


def test_neighbours_travel_as_one() -> None:
    assert list(requests(iter([(0, 10), (10, 10), (25, 5), (100, 1)]), size=1000, gap=5)) == [(0, 30), (100, 1)]


class Server:
    """A source that counts how far its ranges were read."""

    ref = "nas:x"
    size = len(DATA)

    def __init__(self, fail_at: int = 1 << 60) -> None:
        self.pulled, self.fail_at, self.closed = 0, fail_at, False

    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        try:
            for offset, length in wanted:
                self.pulled += 1
                if self.pulled > self.fail_at:
                    raise TargetUnavailable("broke")
                yield DATA[offset : offset + length]
        finally:
            self.closed = True


def planned(*parts: Iterator[Range]) -> Callable[[], Iterator[Range]]:
    """Each part once, then nothing."""
    left = list(parts)
    return lambda: left.pop(0) if left else iter(())


def test_a_stream_that_came_to_its_end_goes_on() -> None:
    server: Any = Server()
    ahead = ReadAhead(server, planned(iter([(0, 3)]), iter([(9, 4), (20, 1)])))
    assert [ahead.take(one)() for one in ((0, 3), (9, 4), (20, 1))] == [DATA[:3], DATA[9:13], DATA[20:21]]


def test_a_server_is_read_in_order_under_take() -> None:
    server: Any = Server()
    ahead = ReadAhead(server, planned(iter([(0, 3), (9, 4)])))
    assert server.pulled == 0
    first, second = ahead.take((0, 3)), ahead.take((9, 4))
    assert (second(), first()) == (DATA[9:13], DATA[:3])
    with pytest.raises(PhdError, match="no range of the plan"):
        ahead.take((13, 1))


def test_an_error_stays() -> None:
    server: Any = Server(fail_at=1)
    ahead = ReadAhead(server, planned(iter([(0, 3), (9, 4), (20, 1)])))
    ahead.take((0, 3))
    for _ in range(3):
        with pytest.raises(TargetUnavailable, match="broke"):
            ahead.take((9, 4))


def test_bytes_of_another_length_are_refused() -> None:
    server: Any = Server()
    with pytest.raises(PhdError, match="3 bytes came for the 4"):
        ReadAhead(server, planned(iter([(0, 3)]))).take((0, 4))


def test_closing_gives_the_connection_back() -> None:
    server: Any = Server()
    ahead = ReadAhead(server, planned(iter([(0, 3), (9, 4)])))
    ahead.take((0, 3))
    ahead.close()
    assert server.closed


def test_a_local_file_is_read_when_fetched(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(DATA)

    def never() -> Iterator[Range]:
        raise AssertionError
        yield (0, 0)

    with open_local_file(str(path)) as source:
        ahead = ReadAhead(source, never)
        fetch = ahead.take((5, 6))
        path.write_bytes(DATA[::-1])
        assert fetch() == DATA[::-1][5:11]
        ahead.close()
