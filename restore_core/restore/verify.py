"""Proves every byte of an archive without restoring: all sections and frames of a Delta, all bytes and blocks of its Full."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass

from restore_core import naming
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import GZIP_MAGIC
from restore_core.archive.full_reader import FullReader
from restore_core.errors import ArchiveAbsent, BadArchive
from restore_core.naming import ArchiveType
from restore_core.restore.fulls.find import proven_full
from restore_core.restore.pipeline import Pipeline, ProgressReport
from restore_core.restore.plan import CopyFailed, plan_summary
from restore_core.restore.request import Phase, Reporter
from restore_core.restore.segment_proof import SegmentProof
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, ByteSource, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was proven. `by` says how; `bytes_checked` counts bytes of the archives themselves."""

    archive: ArchiveRef
    full: ArchiveRef | None
    by: str
    bytes_checked: int
    disk_size: int


def verify_archive(
    ref: ArchiveRef, targets: TargetSet, *, full: ArchiveRef | None = None, reporter: Reporter, stop: Stop
) -> VerifyReport:
    """Verify a Delta and the Full it needs, or a Full by the empty Delta beside it.

    A Full without its empty Delta is checked by its gzip CRCs alone, and the report says so. Raises `BadArchive` at the
    first thing that is wrong.
    """
    with targets.open(ref) as source:
        if source.read_at(0, min(2, source.size)) == GZIP_MAGIC:
            return _verify_full(source, targets, reporter, stop)
        return _verify_delta(source, targets, full, reporter, stop)


def _verify_delta(
    source: ByteSource, targets: TargetSet, full_ref: ArchiveRef | None, reporter: Reporter, stop: Stop
) -> VerifyReport:
    delta = DeltaReader(source)
    for section in delta.header.sections:
        delta.check_section(section)
        stop()
    delta.check_lists()
    checked = source.size
    with proven_full(delta, full_ref, targets, reporter, blocks=delta.header.blocks_full) as full:
        if full is not None:
            _check_whole(full, delta, stop)
            checked += full.source.size
        _check_blocks(delta, full, reporter, stop)
        return VerifyReport(
            archive=source.ref,
            full=full.source.ref if full else None,
            by="every section, block and segment digest",
            bytes_checked=checked,
            disk_size=delta.header.disk_size,
        )


def _verify_full(source: ByteSource, targets: TargetSet, reporter: Reporter, stop: Stop) -> VerifyReport:
    full = FullReader(source)
    empty = _empty_delta(source.ref, targets)
    if empty is not None:
        with targets.open(empty) as delta_source:
            report = _verify_delta(delta_source, targets, source.ref, reporter, stop)
            if report.full is None:  # a disk of zeros needs no Full, but its bytes are to be proven all the same
                _check_whole(full, DeltaReader(delta_source), stop)
        return VerifyReport(
            archive=source.ref,
            full=source.ref,
            by=f"its empty Delta {empty}",
            bytes_checked=source.size,
            disk_size=report.disk_size,
        )
    size = 0
    for data in full.plain():
        size += len(data)
        stop()
    if full.identity is not None and size != full.identity.disk_size:
        raise BadArchive(
            f"{full.where}: holds {size} bytes, its first member says {full.identity.disk_size}", remedy="Use another copy."
        )
    reporter.note(
        "there is no empty Delta beside it: only the gzip's own CRCs were checked ('phd adopt' makes a map for a foreign gzip)"
    )
    return VerifyReport(archive=source.ref, full=source.ref, by="gzip CRC only", bytes_checked=source.size, disk_size=size)


def _check_whole(full: FullReader, delta: DeltaReader, stop: Stop) -> None:
    sha = hashlib.sha256()
    for data in full.source.stream():
        sha.update(data)
        stop()
    if sha.hexdigest() != delta.header.full_sha256:
        raise BadArchive(
            f"{full.where}: SHA-256 of the file is {sha.hexdigest()}, {delta.where} expects {delta.header.full_sha256}",
            remedy="The Full is damaged or another one. Use another copy.",
        )


def _check_blocks(delta: DeltaReader, full: FullReader | None, reporter: Reporter, stop: Stop) -> None:
    report = ProgressReport(plan_summary(delta), reporter, time.monotonic(), Phase.VERIFY)
    try:
        # A foreign Full is one stream beside the frames of the Delta: segments would be held without a bound.
        proof = SegmentProof(delta) if full is None or delta.header.frame_size else None
        Pipeline(delta, full, proof, where=delta.where, in_disk_order=proof is not None).run(report.tick, stop)
        if proof is not None:
            proof.finish()
    except CopyFailed as failure:
        raise failure.error from failure


def _empty_delta(ref: ArchiveRef, targets: TargetSet) -> ArchiveRef | None:
    """Returns the empty Delta beside a Full, found by its name; None if there is none."""
    name = naming.parse_archive(ref.name)
    if name is not None and name.type is ArchiveType.FULL:
        guess = ref.beside(naming.delta_name(scsi=name.scsi, disk=name.disk, stamp=name.stamp, base=name.stamp))
        with contextlib.suppress(ArchiveAbsent):
            targets.open(guess).close()
            return guess
    return None
