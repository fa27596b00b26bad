"""What was read after what: recorded, and fetched ahead the next time."""

from __future__ import annotations

import pytest

from restore_core.serve.disk import DiskRequest, new_cache, open_served_disk
from restore_core.serve.read_order import BEGINNING, orders_of_text, orders_to_text
from tests.lab import BLOCK, FRAME
from tests.restore_core.serve.served_lab import Served


def test_the_order_of_the_first_reads_is_kept(served: Served) -> None:
    with served.open() as disk:
        for block in (9, 3, 9, 12, 2, 0):
            disk.read(block * BLOCK, 10)
        assert disk.order == [2 * FRAME, 0, 3 * FRAME, 2 * BLOCK]


def test_zero_blocks_are_in_no_order(served: Served) -> None:
    with served.open() as disk:
        disk.read(BLOCK, BLOCK)
        assert disk.order == []


def test_what_came_next_in_an_earlier_run_is_fetched_before_it_is_asked_for(served: Served) -> None:
    cache = new_cache()
    request, order = DiskRequest(delta=served.delta), [2 * FRAME, 0, 2 * BLOCK, 3 * FRAME]
    with open_served_disk(request, served.lab.targets, reporter=served.lab.witness, cache=cache, order=order) as disk:
        disk.read(2 * FRAME + 5, 1)
        units = [disk._blocks.unit_of(block) for block in (0, 2, 12)]
        assert all(cache.holds(disk._number, unit) for unit in units)
        assert disk.read(0, disk.size) == served.data
        assert disk.order[:4] == [2 * FRAME, 0, 2 * BLOCK, FRAME]
    cache.close()
    assert cache.decoded == 5


def test_what_an_earlier_run_read_and_this_one_did_not_stays_at_the_end(served: Served) -> None:
    with open_served_disk(
        DiskRequest(delta=served.delta), served.lab.targets, reporter=served.lab.witness, order=[3 * FRAME, 0]
    ) as disk:
        disk.read(0, 1)
        assert disk.order == [0, 3 * FRAME]


def test_an_order_of_another_disk_is_no_error(served: Served) -> None:
    order = [1 << 60, -5, 3 * FRAME + 1, BLOCK, 0]
    with open_served_disk(DiskRequest(delta=served.delta), served.lab.targets, reporter=served.lab.witness, order=order) as disk:
        assert disk.read(0, disk.size) == served.data


def test_orders_are_read_as_they_were_written() -> None:
    text = orders_to_text({"": [5, 3], "ü": []})
    assert orders_of_text(text) == {"": [5, 3], "ü": []}
    assert text.encode().startswith(BEGINNING)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "orders": {}}', '{"version": 1}', "null"])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        orders_of_text(text)


def test_numbers_alone_are_taken_from_an_order() -> None:
    assert orders_of_text('{"version": 1, "orders": {"a": ["x", 3, null, 4.5], "b": 7}}') == {"a": [3]}
