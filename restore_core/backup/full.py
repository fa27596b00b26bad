"""Writes a Full and its empty Delta, from one reading of the disk. `zcat`, `gzip -t < FULL` and `pigz -dc` decode the Full."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import FRAME_SIZE, Effort, FullIdentity, full_member
from restore_core.archive.header import DeltaHeader
from restore_core.archive.index_map import FULL, ZERO, block_size_for
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.backup.subject import with_stub
from restore_core.disk.scan import Segment, map_in_order, read_segment, segments
from restore_core.targets.base import NewFile


class _FullWriter:
    """Appends finished members in disk order and keeps what the Delta must know of them. Members are made in any thread."""

    def __init__(self, out: NewFile, identity: FullIdentity, effort: Effort) -> None:
        self._out, self._identity, self._effort = out, identity, effort
        self._sha = hashlib.sha256()
        self._size = 0

    def member(self, frame: int, data: bytes) -> bytes:
        """Returns the member of frame number `frame`."""
        return full_member(data, self._effort, self._identity if frame == 0 else None)

    def add(self, members: bytes) -> None:
        """Appends members."""
        self._out.write(members)
        self._sha.update(members)
        self._size += len(members)

    def finish(self, name: str, time: int) -> FullFacts:
        """Returns the facts of the whole Full. A disk of 0 bytes gets one empty member, which carries the id."""
        if self._size == 0:
            self.add(self.member(0, b""))
        return FullFacts(
            archive_id=self._identity.archive_id.hex(),
            name=name,
            size=self._size,
            sha256=self._sha.hexdigest(),
            disk_size=self._identity.disk_size,
            frame_size=FRAME_SIZE,
            time=time,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """One segment, ready to be appended: members of the Full, a digest for each block (None: zero), SHA-256 (None: all zero)."""

    members: list[bytes]
    digests: list[bytes | None]
    sha256: bytes | None


Tick = Callable[[int], None]
"""Called with the number of bytes of the disk that are done; may raise `Stopped`."""


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
    """Reads the disk behind `fd` once and writes both archives. The caller checks the source and publishes, Full first."""
    block_size = block_size_for(disk.disk_size)
    identity = FullIdentity(archive_id=secrets.token_bytes(16), disk_size=disk.disk_size, frame_size=FRAME_SIZE)
    full = _FullWriter(full_out, identity, effort)
    with DeltaWriter(delta_out, block_size=block_size, block_digest=block_digest, frame_size=FRAME_SIZE, scratch=scratch) as delta:
        zero_member = full.member(1, bytes(FRAME_SIZE))

        def work(number: int) -> _Packed:
            return _pack(read_segment(fd, number, disk.disk_size, block_size), full, block_digest, zero_member)

        for number, packed in enumerate(map_in_order(work, segments(disk.disk_size))):
            full.add(b"".join(packed.members))
            delta.add_full_frames([len(member) for member in packed.members])
            for digest in packed.digests:
                delta.add_block(ZERO) if digest is None else delta.add_block(FULL, digest)
            if packed.sha256 is not None:
                delta.add_segment(number, packed.sha256)
            tick(min((number + 1) * SEGMENT_SIZE, disk.disk_size))
        facts = full.finish(name, time)
        return facts, delta.finish(delta_id=secrets.token_hex(16), disk=with_stub(disk), full=facts, time=time)


def _pack(segment: Segment, full: _FullWriter, digest: BlockDigest, zero_member: bytes) -> _Packed:
    per_frame = max(1, FRAME_SIZE // max(segment.lengths))
    members = []
    for at in range(0, len(segment.blocks), per_frame):
        end = min(at + per_frame, len(segment.blocks))
        frame = segment.number * (SEGMENT_SIZE // FRAME_SIZE) + at // per_frame
        whole_zero = sum(segment.lengths[at:end]) == FRAME_SIZE and all(block is None for block in segment.blocks[at:end])
        members.append(zero_member if frame and whole_zero else full.member(frame, segment.plain(at, end)))
    digests = [None if block is None else digest.of(block) for block in segment.blocks]
    return _Packed(members=members, digests=digests, sha256=segment.sha256())
