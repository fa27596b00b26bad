"""Files that may still be on their way to a target: too new to be believed by age, proven by content, or waited for.

A server shows an upload under its final name while it grows, and the clock of a server may be wrong. So a file is
settled when its mtime is old enough, or when it has looked the same (size, mtime) for long enough in our own listings,
or when its own header says how large it is and that is its size: a Delta does, and for its Full too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from restore_core import naming
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, parse_head
from restore_core.catalog.listing import PROVEN, Line, unescaped, young_lines
from restore_core.errors import PhdError, Stopped
from restore_core.naming import ArchiveType
from restore_core.targets.base import Target, TargetSpec

SETTLE_SECONDS = 20.0
_MOST_PROBES = 1000
"""Headers read in one index. Where more are new, the target was filled anew as a whole, and settles by waiting."""
_PROBE_SECONDS = 10.0


class Young:
    """The young files of one listing, held back until the rest is written."""

    def __init__(self, folder: Path, spec: TargetSpec, *, began: float) -> None:
        self._began = began
        self._before = young_lines(folder, spec)
        self._held: dict[str, Line] = {}

    def hold_back(self, line: Line) -> bool:
        """True for a file that may still grow; it comes again out of `settle`."""
        if self._began - line.mtime >= SETTLE_SECONDS:
            return False
        before = self._before.get(line.path)
        mark = str(int(self._began))
        if before is not None and (before.size, before.mtime) == (line.size, line.mtime):
            if not before.settled and self._began - int(before.mark) >= SETTLE_SECONDS:
                return False
            mark = before.mark
        self._held[line.path] = line._replace(mark=mark)
        return True

    def settle(self, target: Target) -> Iterator[Line]:
        """The held ones, those settled that are proven complete by a header."""
        complete = self._proven(target)
        for path, line in self._held.items():
            yield line._replace(mark=PROVEN) if path in complete else line

    def _proven(self, target: Target) -> set[str]:
        proven: set[str] = set()
        deltas = [line for line in self._held.values() if not line.settled and _type(line) is ArchiveType.DELTA]
        end = time.monotonic() + _PROBE_SECONDS
        for line in deltas if len(deltas) <= _MOST_PROBES else ():
            if time.monotonic() > end:
                break
            header = _header(target, unescaped(line.path))
            if header is None or header.file_size != line.size:
                continue
            proven.add(line.path)
            full = self._held.get(line.path.rpartition("/")[0] + "/" + naming.printable(header.full_name))
            if full is not None and full.size == header.full_size:
                proven.add(full.path)
        return proven


def _type(line: Line) -> ArchiveType | None:
    name = naming.parse_archive(unescaped(line.path.rpartition("/")[2]))
    return name.type if name else None


def _header(target: Target, path: str) -> DeltaHeader | None:
    """What the archive says of itself; None for one that cannot be read (yet)."""
    try:
        with target.open(path) as source:
            return parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref))
    except Stopped:
        raise
    except PhdError:
        return None
