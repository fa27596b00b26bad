"""The record of how many archives a target held when it was last seen, kept outside of the cache.

    FOLDER/NAME.json    {"phd_target": 1, "url": "file:///nas", "archives": 20, "noted": 1795356000.1, "accepted": null}

A target whose disk is not mounted looks like an empty one. So a target that held archives and holds none is not believed, until
a person accepts it (`phd targets accept NAME`). The catalog's cache knows the number, too, but may be deleted at any time. This
record is written, durably, when the number has changed, by every process that indexes and may write there.

What is on record when:

before a listing    nothing: the cached listing is used      crash: nothing was written
listing published   the old number                           another process compares with it: any number but 0 means the same
noted               the new number
accepted            0, before the target is listed again     crash: the next index publishes the empty listing
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from restore_core import durable
from restore_core.naming import printable
from restore_core.targets.base import TargetSpec

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveCount:
    """How many archives a target held when that was `noted`. `accepted` is when a person accepted that it holds none, else None."""

    archives: int
    noted: float
    accepted: float | None = None


def read_held(folder: Path | None, spec: TargetSpec) -> ArchiveCount | None:
    """Returns the record of a target; None if there is none, it cannot be read, or it is of another URL."""
    try:
        data = json.loads(_path(folder, spec).read_bytes()) if folder is not None else {}
        if data["phd_target"] != _VERSION or data["url"] != printable(spec.url):
            return None
        return ArchiveCount(archives=int(data["archives"]), noted=float(data["noted"]), accepted=data["accepted"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_held(folder: Path | None, spec: TargetSpec, archives: int, *, now: float) -> None:
    """Records how many archives a listing has. Does nothing without a `folder`, or if this user may not write there."""
    known = read_held(folder, spec)
    if folder is not None and archives and (known is None or known.archives != archives):
        with contextlib.suppress(OSError):
            _write(folder, spec, archives, now=now, accepted=None)


def accept_none(folder: Path, spec: TargetSpec, *, now: float) -> None:
    """Records that a person accepts that this target holds nothing. Raises `OSError`."""
    _write(folder, spec, 0, now=now, accepted=now)


def _write(folder: Path, spec: TargetSpec, archives: int, *, now: float, accepted: float | None) -> None:
    data = {"phd_target": _VERSION, "url": printable(spec.url), "archives": archives, "noted": now, "accepted": accepted}
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        durable.sync_folder(folder.parent)
    durable.write_whole(_path(folder, spec), json.dumps(data).encode() + b"\n")


def _path(folder: Path, spec: TargetSpec) -> Path:
    return folder / f"{spec.name}.json"
