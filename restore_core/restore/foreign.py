"""A Full that something else wrote: one stream, from which the blocks the map asks for are picked as they pass by."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader, block_length
from restore_core.archive.index_map import BLOCKS_PER_PAGE, FULL, MapPage
from restore_core.errors import BadArchive


def foreign_blocks(
    delta: DeltaReader, full: FullReader, wanted: Callable[[MapPage], bytes]
) -> Iterator[tuple[int, MapPage, bytes]]:
    """(block, its page, its bytes) for every block that `wanted` takes from the Full, in disk order; not yet checked.

    Stops decoding after the last one that can come. Raises `BadArchive` when the stream ends before.
    """
    header = delta.header
    pieces = _pieces(full.plain(), header.block_size)
    left = header.blocks_full
    for index in range(delta.pages):
        page = delta.page(index) if left else None
        kinds = wanted(page) if page is not None else b""
        for number in range(min(BLOCKS_PER_PAGE, header.blocks - index * BLOCKS_PER_PAGE)):
            if page is None or not left:
                return
            data = next(pieces, b"")
            left -= page.kinds[number] == FULL
            if kinds[number] != FULL:
                continue
            block = page.first_block + number
            length = block_length(header.disk_size, header.block_size, block)
            if len(data) < length:
                raise BadArchive(
                    f"{full.where}: the disk in it ends before block {block}", remedy="This is not the Full of that Delta."
                )
            yield block, page, data[:length]


def _pieces(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The stream cut into pieces of `size` bytes; the last one may be short."""
    held = bytearray()
    for data in stream:
        held += data
        cut = len(held) - len(held) % size
        with memoryview(held) as view:
            for at in range(0, cut, size):
                yield bytes(view[at : at + size])
        del held[:cut]
    if held:
        yield bytes(held)
