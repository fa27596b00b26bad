"""Files that may still be uploading to a target.

A server shows an upload under its final name while it grows, and the clock of a server may be wrong. So a file is settled
when its mtime is old enough, or when its size and mtime have been the same for long enough in our own listings, or when it
has the size that a header says. The header of a Delta says its own size, and that of its Full.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from restore_core import naming
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, parse_head
from restore_core.catalog.listing import PROVEN, ListingLine, arriving_lines, unescaped
from restore_core.errors import PhdError, Stopped
from restore_core.naming import ArchiveType
from restore_core.targets.base import Target, TargetSpec

SETTLE_SECONDS = 20.0
_MOST_PROBES = 1000
"""The most headers that are read for one index. If more files are new, the whole target was filled anew, and settles by waiting."""
_PROBE_SECONDS = 10.0


class Arriving:
    """The new files of one listing, held back until the rest is written."""

    def __init__(self, folder: Path, spec: TargetSpec, *, began: float) -> None:
        self._began = began
        self._before = arriving_lines(folder, spec)
        self._held: dict[str, ListingLine] = {}

    def hold_back(self, line: ListingLine) -> bool:
        """Keeps a file that may still grow, and returns True; `settle` returns it."""
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

    def settle(self, target: Target) -> Iterator[ListingLine]:
        """Yields the files that were held back; those that a header proves to be complete are settled."""
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


def _type(line: ListingLine) -> ArchiveType | None:
    name = naming.parse_archive(unescaped(line.path.rpartition("/")[2]))
    return name.type if name else None


def _header(target: Target, path: str) -> DeltaHeader | None:
    """Returns the header of an archive; None if it cannot be read (yet)."""
    try:
        with target.open(path) as source:
            return parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), str(source.ref))
    except Stopped:
        raise
    except PhdError:
        return None
