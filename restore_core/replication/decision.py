"""The decision on one rule in one pass: its verdict, the reason in words, and the times of the backups."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, replace

from restore_core import naming
from restore_core.catalog import CatalogEntry
from restore_core.replication.history import DiskState, Here, History
from restore_core.replication.rules import Rule, names_disk

DAY = dt.timedelta(hours=24)
WRITTEN_SINCE = (
    "somebody has written this disk since it was last restored: it is left alone. To replace it, restore by hand with overwrite"
)
_AGAIN = "To restore that one, delete the lines of this path in the ledger, or restore by hand"


class Verdict(enum.Enum):
    """What a pass decides on a rule."""

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
class RuleDecision:
    """The decision on one rule. `wanted` is the time of the backup that it asks for.

    `replica` is the time of the backup that is there, or was restored last. `unseen` says why the disk there could not be examined.
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
        """Returns how far the replica is behind what its rule asks for; None if either time is not known."""
        if self.wanted is None or self.replica is None:
            return None
        return max(self.wanted - self.replica, dt.timedelta())


def date_of(time: dt.datetime) -> str:
    """Returns a time as people read it."""
    return f"{naming.time_text(time.astimezone(dt.UTC))} UTC"


def stays(draft: RuleDecision, copies: list[CatalogEntry], at: DiskState, history: History, now: dt.datetime) -> RuleDecision:
    """Returns the decision where the backup that the rule asks for, `copies`, may not be restored."""
    draft = replace(draft, entry=copies[0])
    here = history.here
    if here is None:
        return replace(draft, verdict=Verdict.DIVERGED, reason=not_ours(at, known=True))
    if here.is_one_of(copies):
        if not at.startable:
            why = f"the backup of {date_of(here.time)} is there, but not its descriptor: 'phd stub' writes one"
            return replace(draft, verdict=Verdict.DIVERGED, reason=why)
        return replace(draft, verdict=Verdict.CURRENT, reason=f"the backup of {date_of(here.time)} has been restored there")
    verdict, why = _other(draft.rule, copies[0], here, history, now)
    return replace(draft, verdict=verdict, reason=why)


def _other(rule: Rule, wanted: CatalogEntry, here: Here, history: History, now: dt.datetime) -> tuple[Verdict, str]:
    """Returns verdict and reason where another backup is there than the one that is asked for."""
    asked, there = date_of(wanted.time), date_of(here.time)
    if _of_another_disk(here, rule):
        why = f"a backup of another disk is there, {here.archive}, and the backup of {asked} is not newer (OLDER). {_AGAIN}"
        return Verdict.OLDER, why
    if here.time > now - rule.days * DAY:
        return Verdict.AHEAD, f"it asks for the backup of {asked}, and that of {there} is here (OLDER): {_until(rule, here)}"
    if here.time > wanted.time:
        old = f" that {'is a day' if rule.days == 1 else f'are {rule.days} days'} old" if rule.days else ""
        why = f"the backup of {asked} is the newest on the targets{old}, that of {there} is here (OLDER): it is kept"
        return Verdict.OLDER, why
    newest = max(filter(None, (history.mark, history.floor, wanted.time)))
    why = f"that of {there} is here (OLDER than the backup of {asked}, which was restored before): it is kept until one newer than"
    return Verdict.OLDER, f"{why} {date_of(newest)} comes. {_AGAIN}"


def ahead(draft: RuleDecision, history: History, now: dt.datetime) -> RuleDecision:
    """Adds to a decision not to restore which backup is there, and until when that one is too new for the rule."""
    here, rule = history.here, draft.rule
    if here is None or not history.lines:
        return draft
    there = f"that of {date_of(here.time)} is here"
    if here.time > now - rule.days * DAY and rule.days and not _of_another_disk(here, rule):
        why = f"{draft.reason}; {there} (it asks for an OLDER one): {_until(rule, here)}"
        return replace(draft, verdict=Verdict.AHEAD, reason=why)
    return replace(draft, reason=f"{draft.reason}; {there}")


def not_ours(at: DiskState, *, known: bool) -> str:
    """Returns why a disk is left alone; `known` says that a restore of ours was made there."""
    if at.unseen:
        return f"who wrote this disk cannot be seen: {at.unseen}"
    return WRITTEN_SINCE if known else "a disk is there, and no restore of ours is recorded for it: it is not touched"


def _until(rule: Rule, here: Here) -> str:
    return f"ahead of its rule until {date_of(here.time + rule.days * DAY)}"


def _of_another_disk(here: Here, rule: Rule) -> bool:
    """Returns whether the backup that is there is one of another disk than the rule's, by its name."""
    name, folder = naming.parse_archive(here.archive.name), naming.parse_folder(here.archive.folder)
    if name is None or folder.uuid is None:
        return False
    return not names_disk(rule, vm=folder.vm, uuid=folder.uuid, scsi=name.scsi, vmdk=name.disk)
