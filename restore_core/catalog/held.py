"""What a target held when it was last seen, on record where no cache is: so many archives, or none, as a person said.

    FOLDER/NAME.json    {"phd_target": 1, "url": "file:///nas", "archives": 20, "noted": 1795356000.1, "accepted": null}

A target whose disk is not mounted looks like an empty one. So one that held archives and holds none is not believed, until a
person accepts it (`phd targets accept NAME`). The catalog's cache knows the number, too, and may be deleted at any time; this
record is not. It is written when the number has changed, durably, by whoever indexes and may write there.

before a listing    no record: the cached listing tells      crash: nothing was written
listing published   the old number                           a neighbour compares with that: any number but 0 says the same
noted               the new number
accepted            0, before the listing is made anew       crash: the next index publishes the empty listing
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
class Held:
    """So many archives when that was `noted`. `accepted` is when a person said that it holds none, None if nobody did since."""

    archives: int
    noted: float
    accepted: float | None = None


def read_held(folder: Path | None, spec: TargetSpec) -> Held | None:
    """What is on record of a target; None if nothing is, it cannot be read, or it is of another URL."""
    try:
        data = json.loads(_path(folder, spec).read_bytes()) if folder is not None else {}
        if data["phd_target"] != _VERSION or data["url"] != printable(spec.url):
            return None
        return Held(archives=int(data["archives"]), noted=float(data["noted"]), accepted=data["accepted"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_held(folder: Path | None, spec: TargetSpec, archives: int, *, now: float) -> None:
    """Put on record what a listing has shown. Nothing where there is no place for records, or this user may not write there."""
    known = read_held(folder, spec)
    if folder is not None and archives and (known is None or known.archives != archives):
        with contextlib.suppress(OSError):
            _write(folder, spec, archives, now=now, accepted=None)


def accept_none(folder: Path, spec: TargetSpec, *, now: float) -> None:
    """Put on record that a person says: this target holds nothing now, and that is right. Raises `OSError`."""
    _write(folder, spec, 0, now=now, accepted=now)


def _write(folder: Path, spec: TargetSpec, archives: int, *, now: float, accepted: float | None) -> None:
    data = {"phd_target": _VERSION, "url": printable(spec.url), "archives": archives, "noted": now, "accepted": accepted}
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        durable.sync_folder(folder.parent)
    durable.write_whole(_path(folder, spec), json.dumps(data).encode() + b"\n")


def _path(folder: Path, spec: TargetSpec) -> Path:
    return folder / f"{spec.name}.json"
