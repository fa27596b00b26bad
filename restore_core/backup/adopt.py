"""Makes the empty Delta for a gzip of a flat disk that something else wrote. The gzip stays as it is."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import time as time_module
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import plain_stream
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import DeltaHeader
from restore_core.archive.index_map import FULL, ZERO, block_size_for
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.backup.full import Tick
from restore_core.backup.subject import Asked, check_length, check_names, derived_uuid, with_stub
from restore_core.disk.foreign import only_plain
from restore_core.disk.scan import Segment, is_zero
from restore_core.errors import ArchiveAbsent, DestinationExists, SourceRefused
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef, NewFile
from restore_core.targets.local import create_local_file

_OTHER_ENDINGS = (".phd", ".gz")


def adopt_full(ref: ArchiveRef, targets: TargetSet, asked: Asked, *, scratch: Path, tick: Tick) -> ArchiveRef:
    """Makes the empty Delta for the gzip at `ref`, beside it. Returns its reference.

    Raises `DestinationExists` when it has one, `SourceRefused` for a Full that phd made, `BadArchive` for what is no gzip.
    """
    with targets.open(ref) as source:  # raises the typed error for an archive that is not there
        ref = source.ref
    stamp = _stamp(ref, targets)
    disk = disk_of(ref, asked)
    empty = ref.beside(naming.delta_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp, base=stamp))
    _refuse_taken(empty, targets)
    with targets.open(ref) as source:
        full = FullReader(source)
        out = create_local_file(empty.path) if empty.target == LOCAL else targets[empty.target].create(empty.path)
        now = int(time_module.time())
        try:
            write_adopted(
                full=full, disk=disk, name=ref.name, out=out, time=now, block_digest=BlockDigest.BLAKE3, scratch=scratch, tick=tick
            )
            out.publish()
        except FileExistsError as error:
            raise _taken(empty) from error
        finally:
            out.discard()
    return empty


def disk_of(ref: ArchiveRef, asked: Asked) -> DiskFacts:
    """Returns whose disk it is: as the person said, else as folder and name say, else the name. The size is 0, not known yet."""
    name, folder = naming.parse_archive(ref.name), naming.parse_folder(ref.folder)
    disk = name.disk if name is not None else naming.restored_name(_without_endings(ref.name))
    vm = asked.vm or folder.vm or PurePosixPath(disk).stem
    uuid = asked.uuid or folder.uuid or derived_uuid(f"{vm}/{disk}")
    scsi = asked.scsi or (name.scsi if name is not None else "00")
    check_names(vm, uuid)
    check_length(scsi, disk)
    return DiskFacts(vm=vm, uuid=uuid, scsi=scsi, disk=disk, disk_size=0)


def write_adopted(
    *, full: FullReader, disk: DiskFacts, name: str, out: NewFile, time: int, block_digest: BlockDigest, scratch: Path, tick: Tick
) -> DeltaHeader:
    """Decodes the whole gzip once and writes its empty Delta. Ignores `disk.disk_size`: the gzip tells it.

    The block size is that of a disk up to 1 TiB, because the size is known only at the end. Raises `SourceRefused` for a gzip of
    anything but the plain bytes of a disk.
    """
    if full.identity is not None:
        raise SourceRefused(
            f"{full.where}: a Full that phd made",
            remedy="Its empty Delta was made with it; bring that back from another copy.",
        )
    sha = hashlib.sha256()
    block_size = block_size_for(0)
    with DeltaWriter(out, block_size=block_size, block_digest=block_digest, frame_size=0, scratch=scratch) as writer:
        compressed = _hashed(full.source.stream(chunk=256 << 10), sha)
        size = 0
        plain = only_plain(plain_stream(compressed, full.source.ref), full.where)
        for segment in _segments(plain, block_size):
            for block in segment.blocks:
                writer.add_block(ZERO) if block is None else writer.add_block(FULL, block_digest.of(block))
            if (segment_sha := segment.sha256()) is not None:
                writer.add_segment(segment.number, segment_sha)
            size += sum(segment.lengths)
            tick(size)
        facts = FullFacts(
            archive_id="", name=name, size=full.source.size, sha256=sha.hexdigest(), disk_size=size, frame_size=0, time=time
        )
        whole = with_stub(replace(disk, disk_size=size))
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


def _without_endings(name: str) -> str:
    for ending in _OTHER_ENDINGS:
        name = name.removesuffix(ending) or name
    return name


def _stamp(ref: ArchiveRef, targets: TargetSet) -> dt.datetime:
    """Returns the stamp in the Full's name, else the time of the file in the time zone of its target."""
    name = naming.parse_archive(ref.name)
    if name is not None:
        return name.stamp
    if ref.target == LOCAL:
        mtime, zone = os.stat(ref.path).st_mtime, "UTC"
    else:
        mtime, zone = targets[ref.target].stat(ref.path).mtime, targets.specs[ref.target].timezone
    # A server's clock may be ahead: no stamp lies in the future.
    return dt.datetime.fromtimestamp(min(mtime, time_module.time()), ZoneInfo(zone)).replace(tzinfo=None, second=0, microsecond=0)


def _refuse_taken(empty: ArchiveRef, targets: TargetSet) -> None:
    try:
        targets.open(empty).close()
    except ArchiveAbsent:
        return
    raise _taken(empty)


def _taken(empty: ArchiveRef) -> DestinationExists:
    return DestinationExists(f"{empty} is there already", remedy="Prove it with 'phd verify'; move it away if it is bad.")
