"""Proves every byte of an archive without restoring: all sections and frames of a Delta, all bytes and blocks of its Full."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from restore_core import naming
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import GZIP_MAGIC, plain_stream
from restore_core.archive.full_reader import FullReader
from restore_core.archive.index_map import BLOCKS_PER_PAGE, ZERO, MapPage
from restore_core.errors import ArchiveAbsent, BadArchive, Stopped
from restore_core.naming import ArchiveType
from restore_core.restore.fulls.find import proven_full
from restore_core.restore.pipeline import Pipeline, ProgressReport
from restore_core.restore.plan import CopyFailed, plan_summary
from restore_core.restore.request import Phase, Reporter
from restore_core.restore.segment_proof import SegmentProof
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, ByteSource, Stop
from restore_core.targets.local import LocalSource

_TICK = 0.25
"""Seconds between two calls of `stop`."""


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
    delta.check_metadata()
    checked = source.size
    with proven_full(delta, full_ref, targets, reporter, blocks=delta.header.blocks_full) as full:
        checked += full.source.size if full is not None else 0
        with _proven_beside(partial(_check_files, delta, full), [source, *([full.source] if full is not None else [])], stop):
            _check_blocks(delta, full, reporter, stop)
        return VerifyReport(
            archive=source.ref,
            full=full.source.ref if full else None,
            by="every section, block and segment digest",
            bytes_checked=checked,
            disk_size=delta.header.disk_size,
        )


def _check_files(delta: DeltaReader, full: FullReader | None, stop: Stop) -> None:
    """Proves the SHA-256 of the long parts, which `check_metadata` leaves out: the frames, and the file of the Full."""
    for section in delta.header.sections:
        if section.name == "frames":
            delta.check_section(section, stop)
    if full is not None:
        _check_whole(full, delta, stop)
        if delta.header.frame_size:
            _check_rest(full, delta, stop)


def _check_rest(full: FullReader, delta: DeltaReader, stop: Stop) -> None:
    """Proves what follows the frames that the map covers, as `zcat` reads it: the last of them again, others, padding."""
    header, start, frame = delta.header, 0, 0
    for page in reversed(range(delta.pages)):
        offsets, _lengths = delta.full_frames(page)
        if offsets:
            start, frame = offsets[-1], page * BLOCKS_PER_PAGE * header.block_size // header.frame_size + len(offsets) - 1
            break
    left, size = header.full_disk_size - frame * header.frame_size, max(full.source.size - start, 0)
    for data in plain_stream(full.source.stream(start, size), full.source.ref):
        stop()
        left -= len(data)
    if left:
        raise BadArchive(
            f"{full.where}: holds {header.full_disk_size - left} bytes of disk, the Delta says {header.full_disk_size}",
            remedy="One of the two is damaged, or they do not belong together. Use another copy of both.",
        )


@contextlib.contextmanager
def _proven_beside(check: Callable[[Stop], None], sources: list[ByteSource], stop: Stop) -> Iterator[None]:
    """Runs the check beside the block, if all is local; before it, if not: a server may allow one connection only.

    Its error is raised even if the block has one, too: it names the file that is damaged.
    """
    if not all(isinstance(source, LocalSource) for source in sources):
        check(stop)
        yield
        return
    over, failed = threading.Event(), None
    with ThreadPoolExecutor(1, thread_name_prefix="phd-files") as pool:
        checked = pool.submit(check, partial(_stop_if, over))
        try:
            try:
                yield
            except BadArchive as error:
                failed = error
            while not checked.done():
                stop()
                wait([checked], _TICK)
        finally:
            over.set()
    checked.result()
    if failed is not None:
        raise failed


def _stop_if(over: threading.Event) -> None:
    if over.is_set():
        raise Stopped("the blocks are no longer checked")


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
    ours = naming.parse_archive(source.ref.name) is not None
    missing = "there is no empty Delta beside it" if ours else "its name does not say which empty Delta is its own"
    reporter.note(
        f"{missing}: only the gzip's own CRCs were checked. 'phd adopt' makes an empty Delta for a foreign gzip; verify that one"
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
        proof = SegmentProof(delta)
        pipeline = Pipeline(
            delta,
            full,
            proof,
            where=delta.where,
            in_disk_order=True,
            wanted=_with_unlisted_zeros(delta) if full is not None else None,
        )
        if full is not None and not delta.header.frame_size:
            proof.refuse_if_over = pipeline.refuse_if_over
        pipeline.run(report.tick, stop)
        proof.finish()
    except CopyFailed as failure:
        raise failure.error from failure


def _with_unlisted_zeros(delta: DeltaReader) -> Callable[[MapPage], bytes]:
    """Wants zero blocks that no run names from the Full, too: `sh` and the steps by hand leave there what the Full has."""
    size, end = delta.header.block_size, -(-delta.header.full_disk_size // delta.header.block_size)
    zeros = [(run.offset // size, -(-run.end // size)) for run in delta.runs() if run.kind == ZERO]

    def wanted(page: MapPage) -> bytes:
        first, count = page.first_block, len(page.kinds)
        inside = min(max(end - first, 0), count)
        kinds = bytearray(page.kinds[:inside].replace(b"\0", b"\1") + page.kinds[inside:])
        for start, stop in zeros[max(bisect_right(zeros, (first, 0)) - 1, 0) :]:
            if start >= first + count:
                break
            here = slice(max(start - first, 0), max(min(stop - first, count), 0))
            kinds[here] = page.kinds[here]
        return bytes(kinds)

    return wanted


def _empty_delta(ref: ArchiveRef, targets: TargetSet) -> ArchiveRef | None:
    """Returns the empty Delta beside a Full, found by its name; None if there is none."""
    name = naming.parse_archive(ref.name)
    if name is not None and name.type is ArchiveType.FULL:
        guess = ref.beside(naming.delta_name(scsi=name.scsi, disk=name.disk, stamp=name.stamp, base=name.stamp))
        with contextlib.suppress(ArchiveAbsent):
            targets.open(guess).close()
            return guess
    return None
