"""Lists the Fulls among which a person may choose for a Delta: what the catalog knows of that disk, and which of them is proven.

A file of another size cannot be the Full of a Delta, so only those of the right size are opened. A Full that was renamed is
found by its size. A Full on a target that does not answer is listed, and the reason says so.
"""

from __future__ import annotations

import datetime as dt
import glob
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from restore_core.archive.delta_reader import DeltaReader
from restore_core.catalog.index import Catalog
from restore_core.catalog.query import Query
from restore_core.errors import PhdError, Stopped
from restore_core.naming import ArchiveType, comparable, parse_archive
from restore_core.restore.fulls.find import next_door, prove
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef

_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One file that may be the Full. `why` says what proves it, or why it is not the Full; `size` is in bytes.

    `time` is the stamp of its name as written there, None for a name that is not ours.
    """

    ref: ArchiveRef
    size: int
    time: dt.datetime | None
    proven: bool
    why: str


def candidates(delta: DeltaReader, catalog: Catalog, targets: TargetSet) -> list[Candidate]:
    """Returns every Full of the disk of `delta` on all targets and in the folders next to it, proven ones first, then the newest.

    Reads a little of each file that has the right size. A file that cannot be read is no error here: `why` says it.
    """
    sizes = dict(_of_this_disk(delta, catalog))
    header = delta.header
    right = [ref for ref, size in sizes.items() if size == header.full_size and _open_target(ref, targets)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prove") as pool:
        verdicts = dict(zip(right, pool.map(lambda ref: _verdict(delta, ref, targets), right), strict=True))
    found = [_candidate(delta, ref, size, verdicts.get(ref)) for ref, size in sizes.items()]
    own = delta.source.ref.target
    return sorted(found, key=lambda one: (not one.proven, -_seconds(one.time), one.ref.target != own, one.ref))


def _of_this_disk(delta: DeltaReader, catalog: Catalog) -> Iterator[tuple[ArchiveRef, int]]:
    header, ref = delta.header, delta.source.ref
    yield from ((entry.ref, entry.stat.size) for entry in catalog.entries(_fulls_of(delta)))
    yield from ((found, stat.size) for found, stat in catalog.of_size(header.full_size))
    if ref.target == LOCAL:
        for found, size in next_door(ref):
            name = parse_archive(found.name)
            same = name is not None and name.type is ArchiveType.FULL and name.scsi == header.scsi
            same = same and name is not None and comparable(name.disk) == comparable(header.disk)
            if size == header.full_size or same:
                yield found, size


def _fulls_of(delta: DeltaReader) -> Query:
    """Returns a query for exact names: what an archive calls its disk is not a pattern."""
    header = delta.header
    uuid, scsi, disk = (glob.escape(text) for text in (header.uuid, header.scsi, header.disk))
    return Query(vms=frozenset({header.vm}), uuid=uuid or None, scsi=scsi, vmdk=disk, type=ArchiveType.FULL)


def _open_target(ref: ArchiveRef, targets: TargetSet) -> bool:
    """Whether there is such a target. It is made here, because the set of targets is for one thread."""
    return ref.target == LOCAL or (ref.target in targets.specs and targets[ref.target] is not None)


def _verdict(delta: DeltaReader, ref: ArchiveRef, targets: TargetSet) -> str:
    """Returns "" if the file is the Full, else the reason why it is not."""
    try:
        with prove(delta, ref, targets):
            return ""
    except Stopped:
        raise
    except PhdError as error:
        return error.message.removeprefix(f"{ref}: ")  # its row names it already


def _candidate(delta: DeltaReader, ref: ArchiveRef, size: int, verdict: str | None) -> Candidate:
    name = parse_archive(os.path.basename(ref.path))
    if verdict is None:
        why = f"another backup: {size} bytes, needed {delta.header.full_size}"
    else:
        why = verdict or "proven by its id, its size and some of its blocks"
    return Candidate(ref=ref, size=size, time=name.stamp if name else None, proven=verdict == "", why=why)


def _seconds(time: dt.datetime | None) -> float:
    return time.replace(tzinfo=dt.UTC).timestamp() if time else 0.0
