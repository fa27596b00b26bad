"""`Feed` walks a plan once: every unit comes once and in order, however far the streams run ahead, and few pages are held."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

import pytest

from restore_core.archive.index_map import MapPage
from restore_core.errors import BadArchive
from restore_core.restore import plan
from restore_core.restore.plan import CopyFailed, DeltaUnit, Feed, FullUnit, Unit
from restore_core.targets.base import Buffer, Range

PAGES = 200


class Far:
    """An archive on a server that asks for many ranges before it delivers the first."""

    def __init__(self, ahead: int) -> None:
        self.source, self.where, self.ref, self._ahead = self, "nas:x", "nas:x", ahead

    def frames_range(self, offset: int, length: int) -> Range:
        return offset, length

    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        asked = deque(islice(wanted, self._ahead))
        while asked:
            offset, length = asked.popleft()
            yield offset.to_bytes(length, "little")
            asked.extend(islice(wanted, 1))


def page(number: int) -> MapPage:
    return MapPage(
        first_block=number * 4096,
        kinds=b"",
        digests=b"",
        digest_size=32,
        ranks=[],
        delta_lengths=[],
        delta_base=number,
        full_base=0,
    )


def units(number: int, *, delta_every: int) -> list[Unit]:
    here = page(number)
    found: list[Unit] = [FullUnit(page=here, frame=n, offset=number * 3 + n, length=8, blocks=(n,)) for n in range(3)]
    if number % delta_every == 0:
        found.append(DeltaUnit(page=here, offset=number, length=8, blocks=(3,), lengths=(8,)))
    return found


@pytest.mark.parametrize("delta_every", [1, 3, 50, 150])
@pytest.mark.parametrize("ahead", [1, 2, 40, 10_000])
def test_every_unit_comes_once_with_its_bytes(delta_every: int, ahead: int) -> None:
    held, walked = 0, 0

    def pages() -> Iterator[list[Unit]]:
        nonlocal walked
        for number in range(PAGES):
            walked += 1
            yield units(number, delta_every=delta_every)

    archives: tuple[Any, Any] = Far(ahead), Far(ahead)
    feed = Feed(pages(), *archives)
    for number in range(PAGES):
        for expected in units(number, delta_every=delta_every):
            taken = feed.take()
            assert taken is not None
            assert taken[0] == expected
            assert int.from_bytes(taken[1](), "little") == expected.offset
            held = max(held, walked - number)
    assert feed.take() is None
    assert walked == PAGES
    assert held <= plan._PAGES_AHEAD


def test_an_error_of_the_plan_is_none_of_the_full() -> None:
    """The stream of the Full meets it when it runs ahead; another copy of the Full would not help."""

    def pages() -> Iterator[list[Unit]]:
        yield units(0, delta_every=1)
        raise BadArchive("the second page is damaged", remedy="Use another copy of this Delta.")

    archives: tuple[Any, Any] = Far(40), Far(40)
    with pytest.raises(BadArchive, match="second page"):
        Feed(pages(), *archives).take()


def test_an_error_of_the_full_says_so() -> None:
    class Broken(Far):
        def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
            yield from ()
            raise BadArchive(f"cut short at {next(wanted)}", remedy="Use another copy.")

    archives: tuple[Any, Any] = Far(1), Broken(1)
    with pytest.raises(CopyFailed, match="cut short"):
        Feed(iter([units(0, delta_every=1)]), *archives).take()
