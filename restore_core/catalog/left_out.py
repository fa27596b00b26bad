"""Which disks of a VM its backups left out (`phd backup --skip`): read from the headers of Deltas, once each, at an index.

    {"phd_left_out": 1, "url": "file:///nas"}
    132414 scsi0:1,scsi0:2 2007.09.21-CRM.564d122a-.../00-CRM.vmdk.delta-2007.09.21-0300-070920-1601.phd
    66918 - 2007.09.20-CRM.564d122a-...

A line is size, disks, path, as in a listing; `-` says that none was left out. The file is a part of the cache, and may be deleted
with it. Headers are read for a short while only, the newest first: the rest is read at the next listing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from restore_core import durable
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, parse_head
from restore_core.catalog.listing import ListingLine, is_archive, parse_line, unescaped
from restore_core.errors import ArchiveAbsent, BadArchive, Stopped
from restore_core.naming import printable
from restore_core.targets.base import Target, TargetSpec

_VERSION = 1
_NONE = "-"
_SECONDS = 2.0
_HEAD = 24
"""The longest size, and the spaces around what stands for no disks."""


def read_left_out(folder: Path, spec: TargetSpec) -> dict[str, tuple[str, ...]]:
    """Returns the disks that were left out, by the escaped path of each Delta whose VM has some."""
    parts = (line.split(" ", 2) for line in _lines(folder, spec) if f" {_NONE} " not in line[:_HEAD])
    return {path: tuple(disks.split(",")) for _, disks, path in parts}


def learn_left_out(folder: Path, spec: TargetSpec, target: Target, texts: Iterable[str]) -> None:
    """Reads the headers of the Deltas in a new listing that are not known yet. Raises `OSError` for the cache, and `Stopped`.

    A header that cannot be read is no error: a listing needs nothing of it.
    """
    before = dict[str, str]()
    for line in _lines(folder, spec):
        size, disks, path = line.split(" ", 2)
        before[f"{size} {path}"] = disks
    known, new = dict[str, str](), list[ListingLine]()
    for found in filter(None, (parse_line(text) for text in texts if ".delta-" in text)):
        if (said := before.get(f"{found.size} {found.path}")) is not None:
            known[f"{found.size} {found.path}"] = said
        elif not found.stale and is_archive(found.path):
            new.append(found)
    for found, disks in _read_headers(target, sorted(new, key=lambda line: line.mtime, reverse=True)):
        known[f"{found.size} {found.path}"] = disks
    if known != before:
        _write(folder, spec, known)


def _read_headers(target: Target, new: Iterable[ListingLine]) -> Iterator[tuple[ListingLine, str]]:
    """Yields what each header says, for a short while, or until the target fails. A settled file without a header says nothing."""
    end = time.monotonic() + _SECONDS
    for line in new:
        if time.monotonic() > end:
            return
        try:
            header = _header(target, line)
        except Stopped:
            raise
        except Exception:  # noqa: BLE001 - a listing must not be lost for what it does not need
            return
        if header is not None:
            yield line, ",".join(map(_plain, header.left_out)) or _NONE
        elif line.settled:
            yield line, _NONE


def _header(target: Target, line: ListingLine) -> DeltaHeader | None:
    try:
        with target.open(unescaped(line.path)) as source:
            header = parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref))
    except (BadArchive, ArchiveAbsent):
        return None
    return header if header.file_size == line.size else None


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


def _write(folder: Path, spec: TargetSpec, known: Mapping[str, str]) -> None:
    head = json.dumps({"phd_left_out": _VERSION, "url": printable(spec.url)})
    parts = ((key.partition(" "), disks) for key, disks in known.items())
    lines = [head, *(f"{size} {disks} {path}" for (size, _, path), disks in parts)]
    durable.write_whole(_path(folder, spec), "\n".join([*lines, ""]).encode(), durable=False)


def _path(folder: Path, spec: TargetSpec) -> Path:
    return folder / f"{spec.name}.left-out"
