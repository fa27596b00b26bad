"""Bugs for R1 and R3: what a dead worker left is shown, believed, or stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from phd_daemon.spool import reconcile
from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.restore import decide, existing, redo
from restore_core.restore.survey import Survey, survey_known
from restore_core.targets.base import Stop


def half_applied_disks_are_shown() -> None:
    setattr(redo, "hide", lambda *_: None)  # noqa: B010  mypy forbids the plain form
    setattr(existing.ExistingDisk, "prove_again", lambda *_: None)  # noqa: B010  the same


def two_deaths_are_the_end() -> None:
    reconcile.MAX_DEATHS = 2


def halves_have_any_name() -> None:
    write_whole = durable.write_whole

    def nameless(path: str | Path, data: bytes, *, part: str | None = None, **asked: Any) -> None:
        del part
        write_whole(path, data, **asked)

    setattr(durable, "write_whole", nameless)  # noqa: B010  mypy forbids the plain form


class _AsAsked:
    """Digests of a disk that is believed to hold what the Delta wants."""

    def __init__(self, delta: DeltaReader) -> None:
        self._delta = delta

    def page(self, index: int, blocks: int) -> list[bytes | None]:
        """One digest a block."""
        return list(self._delta.page(index).content())[:blocks]


def a_part_is_believed() -> None:
    def leftover(delta: DeltaReader, part: int, stop: Stop) -> Survey | None:
        return survey_known(delta, _AsAsked(delta), stop) if os.fstat(part).st_size == delta.header.disk_size else None

    setattr(decide, "_leftover", leftover)  # noqa: B010  mypy forbids the plain form
