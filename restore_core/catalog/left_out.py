"""Which disks of a VM its backups left out (`phd backup --skip`): read from the headers of the Deltas that are shown, once each.

    {"phd_left_out": 1, "url": "file:///nas"}
    132414 scsi0:1,scsi0:2 2007.09.21-CRM.564d122a-.../00-CRM.vmdk.delta-2007.09.21-0300-070920-1601.phd
    66918 - 2007.09.20-CRM.564d122a-...

A line is size, disks, path, as in a listing; `-` says that none was left out. The file is a part of the cache, and may be deleted
with it. An index reads no header: that would take longer than the listing.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from heapq import nlargest
from pathlib import Path

from restore_core import durable
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, parse_head
from restore_core.catalog.entry import CatalogEntry
from restore_core.catalog.listing import escaped
from restore_core.errors import ArchiveAbsent, BadArchive, Stopped
from restore_core.naming import ArchiveType, printable
from restore_core.targets.base import Target, TargetSpec

_VERSION = 1
_NONE = "-"
_SECONDS = 2.0
_MOST_AT_ONCE, _MOST = 50, 20_000
"""How many headers are read for one list, and how many are known: of those that were forgotten the header is read again."""
_HEAD = 24
"""The longest size, and the spaces around what stands for no disks."""


def read_left_out(folder: Path, spec: TargetSpec) -> dict[str, tuple[str, ...]]:
    """Returns the disks that were left out, by the escaped path of each Delta whose VM has some."""
    parts = (line.split(" ", 2) for line in _lines(folder, spec) if f" {_NONE} " not in line[:_HEAD])
    return {path: tuple(disks.split(",")) for _, disks, path in parts}


def with_left_out(
    folder: Path, spec: TargetSpec, entries: Iterable[CatalogEntry], open_target: Callable[[TargetSpec], Target]
) -> list[CatalogEntry]:
    """Returns the entries, all of one target, with what their headers say; reads those that are not known yet, a few of the newest.

    A header that cannot be read now is no error. Raises `Stopped`.
    """
    entries = list(entries)
    known = {(int(size), path): disks for size, disks, path in (line.split(" ", 2) for line in _lines(folder, spec))}
    new = [one for one in entries if one.name.type is ArchiveType.DELTA and not one.stale and _key(one) not in known]
    if not new:
        return entries
    learned = dict(_read_headers(spec, open_target, nlargest(_MOST_AT_ONCE, new, key=lambda one: (one.time, one.ref))))
    if learned:
        with contextlib.suppress(OSError):  # not every user may write the cache
            _write(folder, spec, known | learned)
    said = {key: tuple(disks.split(",")) for key, disks in learned.items() if disks != _NONE}
    return [replace(one, left_out=said[_key(one)]) if _key(one) in said else one for one in entries]


def _key(entry: CatalogEntry) -> tuple[int, str]:
    return entry.stat.size, escaped(entry.ref.path)


def _read_headers(
    spec: TargetSpec, open_target: Callable[[TargetSpec], Target], new: Iterable[CatalogEntry]
) -> Iterator[tuple[tuple[int, str], str]]:
    """Yields what each header says, for a short while, or until the target fails. A settled file without a header says nothing."""
    end = time.monotonic() + _SECONDS
    try:
        with contextlib.closing(open_target(spec)) as target:
            for one in new:
                if time.monotonic() > end:
                    return
                header = _header(target, one)
                if header is not None:
                    yield _key(one), ",".join(map(_plain, header.left_out)) or _NONE
                elif one.settled:
                    yield _key(one), _NONE
    except Stopped:
        raise
    except Exception:  # noqa: BLE001 - a list must not be lost for what it can do without
        return


def _header(target: Target, entry: CatalogEntry) -> DeltaHeader | None:
    try:
        with target.open(entry.ref.path) as source:
            header = parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref))
    except (BadArchive, ArchiveAbsent):
        return None
    return header if header.file_size == entry.stat.size else None


def _plain(disk: str) -> str:
    """Returns the name of a disk as the file can hold it, whatever a header says."""
    return printable(disk).replace(",", "_").replace(" ", "_")


def _lines(folder: Path, spec: TargetSpec) -> list[str]:
    try:
        first, *lines = durable.read_plain(_path(folder, spec)).decode().split("\n")
        head = json.loads(first)
        sound = (head["phd_left_out"], head["url"], lines.pop()) == (_VERSION, printable(spec.url), "")
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
    return [line for line in lines if line.count(" ") >= 2] if sound else []


def _write(folder: Path, spec: TargetSpec, known: Mapping[tuple[int, str], str]) -> None:
    head = json.dumps({"phd_left_out": _VERSION, "url": printable(spec.url)})
    lines = [f"{size} {disks} {path}" for (size, path), disks in known.items()]
    durable.write_whole(_path(folder, spec), "\n".join([head, *lines[-_MOST:], ""]).encode(), durable=False)


def _path(folder: Path, spec: TargetSpec) -> Path:
    return folder / f"{spec.name}.left-out"
