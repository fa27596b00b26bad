"""What a 1 TiB disk costs in memory. Its Full and Delta are real and whole, but of one pattern, so that they take 1.3 GB."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path

from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import FRAME_SIZE, Effort, FullIdentity, delta_member, full_member
from restore_core.archive.index_map import BLOCK_SIZE, DELTA, FULL, ZERO
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.errors import ExitCode
from restore_core.targets.local import create_local_file
from tests.bench.installed import UUID, Installed
from tests.bench.measure import empty_folder, peak
from tests.bench.report import Row, below

TIB = 1 << 40
LIMIT = 150
SLICE_SECONDS = 20
STAMP = 1767582000  # 2026-01-05 03:00 UTC
OLD, NEW = b"\x5a" * BLOCK_SIZE, b"\xa5" * BLOCK_SIZE
KINDS = (FULL, FULL, FULL, DELTA, FULL, FULL, FULL, ZERO, ZERO, FULL)
"""The map, again and again: 70 % from the Full, 10 % from the Delta, 20 % were data and are zero now."""


def memory_rows(phd: Installed, work: Path) -> list[Row]:
    """Peak of planning, of a restore up to its refusal for want of space, and of the first part of decoding and checking."""
    target = phd.target("big")
    empty_folder(target)
    print("making a Full and a Delta of 1 TiB", flush=True)
    delta = make_archives(target, TIB)
    out = work / "big.vmdk"
    try:
        plan = peak(phd.command("plan", str(delta), "--to", str(out)), expected=(ExitCode.DONE,))
        rows = [below("1 TiB, 80 % of it data: peak memory of phd plan", plan / 1e6, LIMIT, "MB")]
        if shutil.disk_usage(work).free < TIB * 8 // 10:
            refused = peak(phd.command("restore", str(delta), "--to", str(out)), expected=(ExitCode.DESTINATION,))
            rows.append(below("of phd restore, until it is refused for want of space", refused / 1e6, LIMIT, "MB"))
        decoded = peak(phd.command("verify", str(delta)), expected=(ExitCode.DONE, ExitCode.INTERRUPTED), seconds=SLICE_SECONDS)
        rows.append(below(f"of the first {SLICE_SECONDS} s of phd verify", decoded / 1e6, LIMIT, "MB"))
    finally:
        shutil.rmtree(target)
    return rows


def make_archives(target: Path, size: int) -> Path:
    """The Delta; its Full lies beside it."""
    folder = target / f"2026.01.05-big.{UUID}"
    folder.mkdir()
    full = _make_full(folder / "00-big.img.gz-260105-0300.phd", size)
    path = folder / "00-big.img.delta-2026.01.06-0300-260105-0300.phd"
    out = create_local_file(str(path))
    writer = DeltaWriter(out, block_size=BLOCK_SIZE, block_digest=BlockDigest.BLAKE3, frame_size=FRAME_SIZE, scratch=folder)
    _add_full_frames(writer, full.size, size)
    _add_blocks(writer, size)
    disk = DiskFacts(vm="big", uuid=UUID, scsi="00", disk="big.img", disk_size=size)
    writer.finish(delta_id=secrets.token_hex(16), disk=disk, full=full, time=STAMP + 86400)
    out.publish()
    return path


def _members() -> tuple[bytes, bytes]:
    """The first member of the Full and every other one."""
    identity = FullIdentity(archive_id=b"big!" * 4, disk_size=TIB, frame_size=FRAME_SIZE)
    plain = OLD * (FRAME_SIZE // BLOCK_SIZE)
    return full_member(plain, Effort.NORMAL, identity), full_member(plain, Effort.NORMAL)


def _make_full(path: Path, size: int) -> FullFacts:
    first, other = _members()
    sha = hashlib.sha256()
    frames = size // FRAME_SIZE
    with path.open("wb") as file:
        for start in range(0, frames, 1024):
            count = min(1024, frames - start)
            batch = other * count if start else first + other * (count - 1)
            file.write(batch)
            sha.update(batch)
    identity = (b"big!" * 4).hex()
    return FullFacts(
        archive_id=identity,
        name=path.name,
        size=path.stat().st_size,
        sha256=sha.hexdigest(),
        disk_size=size,
        frame_size=FRAME_SIZE,
        time=STAMP,
    )


def _add_full_frames(writer: DeltaWriter, full_size: int, size: int) -> None:
    first, other = _members()
    frames = size // FRAME_SIZE
    assert len(first) + len(other) * (frames - 1) == full_size
    writer.add_full_frames([len(first)])
    for start in range(1, frames, 4096):
        writer.add_full_frames([len(other)] * min(4096, frames - start))


def _add_blocks(writer: DeltaWriter, size: int) -> None:
    old, new = BlockDigest.BLAKE3.of(OLD), BlockDigest.BLAKE3.of(NEW)
    frame = delta_member(NEW, Effort.NORMAL)
    per_segment = SEGMENT_SIZE // BLOCK_SIZE
    segments: dict[int, bytes] = {}
    plain = {FULL: OLD, DELTA: NEW, ZERO: bytes(BLOCK_SIZE)}
    for block in range(size // BLOCK_SIZE):
        kind = KINDS[block % len(KINDS)]
        if kind == FULL:
            writer.add_block(FULL, old)
        elif kind == DELTA:
            writer.add_block(DELTA, new, frame=frame, length=BLOCK_SIZE)
        else:
            writer.add_block(ZERO, length=BLOCK_SIZE, in_full=True)
        if (block + 1) % per_segment == 0:
            start = block + 1 - per_segment
            turn = start % len(KINDS)
            if turn not in segments:
                content = b"".join(plain[KINDS[index % len(KINDS)]] for index in range(start, block + 1))
                segments[turn] = hashlib.sha256(content).digest()
            writer.add_segment(block // per_segment, segments[turn])
