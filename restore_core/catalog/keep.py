"""What stays of the last listing where the new one is partial: files that it does not tell and does not say are gone.

Pure: lines of two listings and the gaps of the new one in, lines out. They are marked stale since the first listing that did not
tell them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from restore_core.catalog.listing import GREW, STALE, Line, escaped, parse_line
from restore_core.targets.gaps import Gap

Texts = Callable[[], Iterable[str]]


def kept(before: Texts, now: Texts, gaps: Sequence[Gap], *, began: float) -> Iterator[Line]:
    """The files of the listing before that the gaps of the one that began then may hide."""
    gaps = [replace(gap, path=escaped(gap.path)) for gap in gaps]  # as the lines have it
    doubtful = {gap.folder for gap in gaps}
    folders: set[str] = set()
    told: set[str] = set()
    for line in filter(None, map(parse_line, now())):
        folder = line.path.rpartition("/")[0]
        folders.add(folder)
        if folder in doubtful:
            told.add(line.path)
    for line in filter(None, map(parse_line, before())):
        if line.path not in told and any(gap.covers(line.path, folders) for gap in gaps):
            yield line if line.stale else line._replace(mark=f"{STALE}{int(began)}{'' if line.settled else GREW}")
