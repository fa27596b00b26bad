"""The order in which the parts of a disk are read first. A guest boots in nearly the same order each time.

What comes next in an earlier order is fetched before it is asked for: over a network each miss costs a round trip. An order is only
a hint. It is kept as offsets on the disk, so that the order of one backup serves the next one, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from restore_core.serve.block_map import BlockMap, ServedUnit

MOST = 1 << 16
"""Parts of one disk that are kept: 64 GiB of frames, more than any boot reads."""
MAX_BYTES = 32 << 20
"""Bytes that a file with orders may have."""
BEGINNING = b'{"version": 1, "orders": '
"""How such a file begins, whatever became of the rest."""


class ReadOrder:
    """The order of an earlier run, and that of this one. Any threads may use it."""

    def __init__(self, blocks: BlockMap, earlier: Sequence[int] = ()) -> None:
        """`earlier` are offsets on the disk; those that are not on it are left out."""
        self._blocks = blocks
        self._earlier = list(dict.fromkeys(offset for offset in earlier[:MOST] if 0 <= offset < blocks.size))
        self._place = {offset: place for place, offset in enumerate(self._earlier)}
        self._read: dict[int, None] = {}

    def read(self, unit: ServedUnit, count: int) -> list[ServedUnit]:
        """Notes that a unit is read. Returns up to `count` units that were read after it in the earlier run.

        Raises what reading the map raises.
        """
        offset = self._blocks.offset_of(unit)
        if len(self._read) < MOST:
            self._read.setdefault(offset)
        place = self._place.get(offset)
        if place is None:
            return []
        following = (self._blocks.unit_of(at // self._blocks.block_size) for at in self._earlier[place + 1 : place + 1 + count])
        return [each for each in following if each is not None]

    def offsets(self) -> list[int]:
        """Returns the order for a later run: what was read in this one, then the rest of the earlier one."""
        return list(dict.fromkeys([*self._read.copy(), *self._earlier]))[:MOST]


def orders_to_text(orders: Mapping[str, Sequence[int]]) -> str:
    """Returns the orders of several disks, by the names of their exports, as a document."""
    return json.dumps({"version": 1, "orders": orders})


def orders_of_text(text: str) -> dict[str, list[int]]:
    """Returns the orders in a document. Raises `ValueError` for anything else."""
    document = json.loads(text)
    orders = document.get("orders") if isinstance(document, dict) and document.get("version") == 1 else None
    if not isinstance(orders, dict):
        raise ValueError("not an order of reads")  # noqa: TRY004  a ValueError, as for what is no JSON
    found = {name: [one for one in order if isinstance(one, int)] for name, order in orders.items() if isinstance(order, list)}
    return {name: order[:MOST] for name, order in found.items()}
