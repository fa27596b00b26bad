"""One rule in one pass: the verdict, its reason in words, and the times of the backups it is about."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from restore_core.catalog import CatalogEntry
from restore_core.replication.rules import Rule


class Verdict(enum.Enum):
    """What becomes of a rule in one pass."""

    RESTORE = "restore"
    CURRENT = "up to date"
    OLDER = "OLDER"
    AHEAD = "ahead of its rule"
    QUEUED = "queued"
    NO_BACKUP = "no backup"
    TOO_NEW = "too new"
    AMBIGUOUS = "ambiguous"
    GONE = "gone"
    FAILED = "failed"
    SILENT = "target silent"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One rule in one pass. `wanted` is the time of the backup it asks for, `replica` that of the one there, or restored last.

    `unseen` is why nothing could be known of the disk there.
    """

    rule: Rule
    verdict: Verdict
    reason: str
    entry: CatalogEntry | None = None
    held: bool = False
    wanted: dt.datetime | None = None
    replica: dt.datetime | None = None
    warnings: tuple[str, ...] = ()
    unseen: str = ""

    @property
    def lag(self) -> dt.timedelta | None:
        """How far the replica is behind what its rule asks for; None if either is not known."""
        if self.wanted is None or self.replica is None:
            return None
        return max(self.wanted - self.replica, dt.timedelta())


def date_of(time: dt.datetime) -> str:
    """A time for people."""
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
