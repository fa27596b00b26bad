"""The empty Delta for a gzip of a flat disk that something else wrote: the gzip stays as it is and gets a map."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.full_reader import FullReader
from restore_core.archive.gunzip import plain_stream
from restore_core.archive.header import DeltaHeader
from restore_core.archive.index_map import FULL, ZERO, block_size_for
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.backup.full import Tick
from restore_core.backup.ready_stub import with_ready_stub
from restore_core.disk.scan import Segment, is_zero
from restore_core.errors import SourceRefused
from restore_core.targets.base import NewFile


def write_adopted(
    *, full: FullReader, disk: DiskFacts, name: str, out: NewFile, time: int, block_digest: BlockDigest, scratch: Path, tick: Tick
) -> DeltaHeader:
    """Decode the whole gzip once and write its empty Delta. `disk.disk_size` is ignored: the gzip tells it.

    The block size is that of a disk up to 1 TiB, since the size is known only at the end.
    """
    if full.identity is not None:
        raise SourceRefused(
            f"{full.where}: a Full of ours", remedy="It had its empty Delta when it was made; bring that back from another copy."
        )
    sha = hashlib.sha256()
    block_size = block_size_for(0)
    with DeltaWriter(out, block_size=block_size, block_digest=block_digest, frame_size=0, scratch=scratch) as writer:
        compressed = _hashed(full.source.stream(chunk=256 << 10), sha)
        size = 0
        for segment in _segments(plain_stream(compressed, full.source.ref), block_size):
            for block in segment.blocks:
                writer.add_block(ZERO) if block is None else writer.add_block(FULL, block_digest.of(block))
            if (segment_sha := segment.sha256()) is not None:
                writer.add_segment(segment.number, segment_sha)
            size += sum(segment.lengths)
            tick(size)
        facts = FullFacts(
            archive_id="", name=name, size=full.source.size, sha256=sha.hexdigest(), disk_size=size, frame_size=0, time=time
        )
        whole = with_ready_stub(replace(disk, disk_size=size))
        return writer.finish(delta_id=secrets.token_hex(16), disk=whole, full=facts, time=time)


def _hashed(chunks: Iterator[bytes], sha: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        sha.update(chunk)
        yield chunk


def _segments(stream: Iterator[bytes], block_size: int) -> Iterator[Segment]:
    held, number = bytearray(), 0
    for data in stream:
        held += data
        if len(held) >= SEGMENT_SIZE:
            yield _segment(number, bytes(memoryview(held)[:SEGMENT_SIZE]), block_size)
            del held[:SEGMENT_SIZE]
            number += 1
    if held:
        yield _segment(number, bytes(held), block_size)


def _segment(number: int, data: bytes, block_size: int) -> Segment:
    pieces = [data[at : at + block_size] for at in range(0, len(data), block_size)]
    return Segment(
        number=number, blocks=[None if is_zero(piece) else piece for piece in pieces], lengths=[len(piece) for piece in pieces]
    )
