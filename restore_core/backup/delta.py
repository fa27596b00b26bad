"""Writes a Delta: reads the disk once, compares each block by digest with the newest Full, and compresses only what changed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.frames import Effort, delta_member
from restore_core.archive.header import DeltaHeader
from restore_core.archive.index_map import DELTA, FULL, ZERO
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.backup.full import Tick
from restore_core.backup.subject import with_stub
from restore_core.disk.scan import Segment, map_in_order, read_segment, segments
from restore_core.targets.base import NewFile


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What the Full holds in one segment: the digest of each block (None: zero, or beyond its end), and its SHA-256."""

    number: int
    digests: list[bytes | None]
    sha256: bytes | None
    same_length: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One block of the new disk, as `DeltaWriter.add_block` takes it."""

    kind: int
    digest: bytes
    frame: bytes
    length: int
    in_full: bool


def full_facts(base: DeltaReader) -> FullFacts:
    """Returns the facts of the Full that an empty Delta describes."""
    header = base.header
    return FullFacts(
        archive_id=header.full_id, name=header.full_name, size=header.full_size, sha256=header.full_sha256,
        disk_size=header.full_disk_size, frame_size=header.frame_size, time=header.full_time,
    )  # fmt: skip


def write_delta(
    *, fd: int, disk: DiskFacts, base: DeltaReader, out: NewFile, time: int, effort: Effort, scratch: Path, tick: Tick
) -> DeltaHeader:
    """Reads the disk behind `fd` once and writes its Delta against the Full whose empty Delta is `base`."""
    header = base.header
    with DeltaWriter(
        out, block_size=header.block_size, block_digest=header.block_digest, frame_size=header.frame_size, scratch=scratch
    ) as writer:
        if header.frame_size:
            for page in range(base.pages):
                writer.add_full_frames(base.full_frames(page)[1])

        def work(part: _Base) -> tuple[list[_Block], bytes | None]:
            segment = read_segment(fd, part.number, disk.disk_size, header.block_size)
            blocks = [_block(base, segment, part, index, effort) for index in range(len(segment.blocks))]
            # The SHA-256 of an untouched segment is known; without SHA instructions this saves most of the time.
            untouched = part.same_length and all(block.kind != DELTA and not block.in_full for block in blocks)
            return blocks, part.sha256 if untouched else segment.sha256()

        for number, (blocks, sha256) in enumerate(map_in_order(work, _base_segments(base, disk.disk_size))):
            for block in blocks:
                writer.add_block(block.kind, block.digest, frame=block.frame, length=block.length, in_full=block.in_full)
            if sha256 is not None:
                writer.add_segment(number, sha256)
            tick(min((number + 1) * SEGMENT_SIZE, disk.disk_size))
        return writer.finish(delta_id=secrets.token_hex(16), disk=with_stub(disk), full=full_facts(base), time=time)


def _block(base: DeltaReader, segment: Segment, part: _Base, index: int, effort: Effort) -> _Block:
    data, length = segment.blocks[index], segment.lengths[index]
    known = part.digests[index]
    if data is None:
        return _Block(kind=ZERO, digest=b"", frame=b"", length=length, in_full=known is not None)
    digest = base.header.block_digest.of(data)
    if digest == known:
        return _Block(kind=FULL, digest=digest, frame=b"", length=length, in_full=False)
    return _Block(kind=DELTA, digest=digest, frame=delta_member(data, effort), length=length, in_full=False)


def _base_segments(base: DeltaReader, disk_size: int) -> Iterator[_Base]:
    """Yields what the Full holds, segment by segment, for a disk of `disk_size` bytes."""
    header = base.header
    digests = chain.from_iterable(base.page(page).content() for page in range(base.pages))
    hashes = base.segments()
    ahead = next(hashes, None)
    per_segment = SEGMENT_SIZE // header.block_size
    for number in segments(disk_size):
        blocks = -(-min(SEGMENT_SIZE, disk_size - number * SEGMENT_SIZE) // header.block_size)
        known = [next(digests, None) for _ in range(per_segment)][:blocks]
        sha256 = None
        if ahead is not None and ahead[0] == number:
            sha256, ahead = ahead[1], next(hashes, None)
        end = (number + 1) * SEGMENT_SIZE
        same_length = min(end, disk_size) == min(end, header.disk_size)
        yield _Base(number=number, digests=known, sha256=sha256, same_length=same_length)
