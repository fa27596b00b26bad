"""A Full and its empty Delta, from one reading of the disk."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import FRAME_SIZE, Effort, FullIdentity
from restore_core.archive.full_writer import FullWriter
from restore_core.archive.header import DeltaHeader
from restore_core.archive.index_map import FULL, ZERO, block_size_for
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.backup.ready_stub import with_ready_stub
from restore_core.disk.scan import Segment, in_order, read_segment, segments
from restore_core.targets.base import NewFile


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """One segment, ready to be appended: members of the Full, a digest for each block (None: zero), SHA-256 (None: all zero)."""

    members: list[bytes]
    digests: list[bytes | None]
    sha256: bytes | None


Tick = Callable[[int], None]
"""Told how many bytes of the disk are done; may raise `Stopped`."""


def write_full(
    *,
    fd: int,
    disk: DiskFacts,
    name: str,
    full_out: NewFile,
    delta_out: NewFile,
    time: int,
    effort: Effort,
    block_digest: BlockDigest,
    scratch: Path,
    tick: Tick,
) -> tuple[FullFacts, DeltaHeader]:
    """Read the disk behind `fd` once and write both archives; the caller checks the source and publishes, Full first."""
    block_size = block_size_for(disk.disk_size)
    identity = FullIdentity(archive_id=secrets.token_bytes(16), disk_size=disk.disk_size, frame_size=FRAME_SIZE)
    full = FullWriter(full_out, identity, effort)
    with DeltaWriter(delta_out, block_size=block_size, block_digest=block_digest, frame_size=FRAME_SIZE, scratch=scratch) as delta:
        zero_member = full.member(1, bytes(FRAME_SIZE))

        def work(number: int) -> _Packed:
            return _pack(read_segment(fd, number, disk.disk_size, block_size), full, block_digest, zero_member)

        for number, packed in enumerate(in_order(work, segments(disk.disk_size))):
            full.add(b"".join(packed.members))
            delta.add_full_frames([len(member) for member in packed.members])
            for digest in packed.digests:
                delta.add_block(ZERO) if digest is None else delta.add_block(FULL, digest)
            if packed.sha256 is not None:
                delta.add_segment(number, packed.sha256)
            tick(min((number + 1) * SEGMENT_SIZE, disk.disk_size))
        full.finish()
        facts = FullFacts(
            archive_id=identity.archive_id.hex(),
            name=name,
            size=full.size,
            sha256=full.sha256,
            disk_size=disk.disk_size,
            frame_size=FRAME_SIZE,
            time=time,
        )
        return facts, delta.finish(delta_id=secrets.token_hex(16), disk=with_ready_stub(disk), full=facts, time=time)


def _pack(segment: Segment, full: FullWriter, digest: BlockDigest, zero_member: bytes) -> _Packed:
    per_frame = max(1, FRAME_SIZE // max(segment.lengths))
    members = []
    for at in range(0, len(segment.blocks), per_frame):
        end = min(at + per_frame, len(segment.blocks))
        frame = segment.number * (SEGMENT_SIZE // FRAME_SIZE) + at // per_frame
        whole_zero = sum(segment.lengths[at:end]) == FRAME_SIZE and all(block is None for block in segment.blocks[at:end])
        members.append(zero_member if frame and whole_zero else full.member(frame, segment.plain(at, end)))
    digests = [None if block is None else digest.of(block) for block in segment.blocks]
    return _Packed(members=members, digests=digests, sha256=segment.sha256())
