"""Decides which backup each rule asks for now, and why. Pure: it reads no clock, no file and no queue.

The first line that is true decides:

    no Delta of the disk on any target                      no backup
    the rule fits two different disks                       ambiguous
    no backup is old enough (-N)                            too new
    a job will write to that destination                    queued
    the ledger names the destination, the disk is gone      gone        never restored again by itself
    the newest fitting backup is there, restored by us      up to date
    it is not newer than all that were restored there       OLDER       a replica never goes back by itself
      and what is there is too new for the rule             ahead       its days were changed, or a person restored it
      and somebody has written to the disk                  diverged
    its job failed, or was cancelled                        failed      tried again later, or the next older one
    its target does not answer                              silent
    a disk is there that we did not write last              diverged    it may be the only copy of somebody's work
    otherwise                                               restore
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from zoneinfo import ZoneInfo

from restore_core.catalog import CatalogEntry
from restore_core.errors import ExitCode
from restore_core.naming import ArchiveType, printable, scsi_colon, searchable
from restore_core.replication.decision import DAY, RuleDecision, Verdict, ahead, date_of, not_ours, stays
from restore_core.replication.history import DiskState, History, Times, history_of
from restore_core.replication.ledger import Ledger, LedgerLine
from restore_core.replication.rules import Rule, as_written, names_disk

__all__ = ["DiskState", "JobPhase", "PassPolicy", "QueuedJob", "RuleDecision", "Verdict", "World", "select"]
_OLDER_THAN_REPLICA = "the next older one is older than the replica"


class JobPhase(enum.Enum):
    """The state of a job, as far as it matters to a rule."""

    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """One job of the queue, also a finished one. `finished` is aware; `state` is the word that people see."""

    name: str
    state: str
    phase: JobPhase
    archive: str
    destination: Path
    finished: dt.datetime | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPolicy:
    """The settings of a pass. `retry` is the wait after a first failure; it doubles up to `retry_most`."""

    storm_limit: int = 10
    fall_back_to_older: bool = False
    retry: dt.timedelta = dt.timedelta(hours=1)
    retry_most: dt.timedelta = dt.timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that a pass looks at. `silent` names the targets whose listing is stale, with the reason; `now` is aware.

    `key` is equal for two paths to one disk, which rules, ledger and jobs may write in different ways.
    """

    entries: Iterable[CatalogEntry]
    ledger: Ledger
    jobs: Sequence[QueuedJob]
    destinations: Mapping[Path, DiskState]
    now: dt.datetime
    silent: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, ZoneInfo] = field(default_factory=dict)
    key: Callable[[Path], Hashable] = as_written


def select(rules: Sequence[Rule], world: World, policy: PassPolicy) -> tuple[RuleDecision, ...]:
    """Returns one decision for each rule, in their order. If there are more restores than the storm limit, all of them are held."""
    matcher = _Matcher(rules, world, policy)
    decisions = [matcher.decide(rule) for rule in rules]
    too_many = sum(one.verdict is Verdict.RESTORE for one in decisions) > policy.storm_limit
    return tuple(replace(one, held=too_many and one.verdict is Verdict.RESTORE) for one in decisions)


class _Matcher:
    """Decides on rules; it holds backups, restores and jobs by name and by disk."""

    def __init__(self, rules: Sequence[Rule], world: World, policy: PassPolicy) -> None:
        self._world, self._policy = world, policy
        wanted = {rule.names for rule in rules}
        self._by_name: dict[tuple[str, str], list[CatalogEntry]] = {}
        for entry in world.entries:
            key = (entry.disk_key.vm, entry.disk_key.disk)
            if key in wanted:
                self._by_name.setdefault(key, []).append(entry)
        self._times = Times((entry for found in self._by_name.values() for entry in found), world.zones)
        self._same = _SameDisk((rule.destination for rule in rules), world.key)
        self._restored: dict[Hashable, list[LedgerLine]] = {}
        for line in world.ledger.lines:
            self._restored.setdefault(self._same.key(line.destination), []).append(line)
        self._jobs: dict[Hashable, list[QueuedJob]] = {}
        for job in world.jobs:
            self._jobs.setdefault(self._same.key(job.destination), []).append(job)

    def decide(self, rule: Rule) -> RuleDecision:
        """Returns the decision on one rule."""
        at = self._world.destinations.get(rule.destination, DiskState(exists=False))
        lines = tuple(self._restored.get(self._same.key(rule.destination), ()))
        history = history_of(lines, at, self._times, self._world.now)
        replica = self._replica_time(history)
        draft = RuleDecision(rule=rule, verdict=Verdict.NO_BACKUP, reason="", replica=replica, unseen=at.unseen)
        found = [entry for entry in self._by_name.get(rule.names, ()) if _fits(rule, entry)]
        deltas = [entry for entry in found if entry.name.type is ArchiveType.DELTA]
        if not deltas:
            why = "only Fulls without a map: 'phd adopt' makes empty Deltas" if found else "no target has a backup of this disk"
            return ahead(replace(draft, reason=why), history, self._world.now)
        disks = sorted({entry.disk_key for entry in deltas})
        if len(disks) > 1:
            named = "; ".join(f"{printable(key.uuid or f'version 2 of {key.vm}')} at {scsi_colon(key.scsi)}" for key in disks)
            return replace(draft, verdict=Verdict.AMBIGUOUS, reason=f"the rule fits {len(disks)} different disks: {named}")
        draft = replace(draft, warnings=self._warnings(deltas))
        latest = self._world.now - rule.days * DAY
        offered = [entry for entry in deltas if entry.settled and entry.time <= latest]
        if not offered:
            why = _too_new(rule, deltas, self._world.now)
            return ahead(replace(draft, verdict=Verdict.TOO_NEW, reason=why), history, self._world.now)
        time = attrgetter("time")
        copies = [list(group) for _, group in groupby(sorted(offered, key=time, reverse=True), key=time)]
        return self._of_copies(draft, copies, at, history)

    def _of_copies(self, draft: RuleDecision, copies: list[list[CatalogEntry]], at: DiskState, history: History) -> RuleDecision:
        """Decides among fitting backups. `copies` are sorted, newest first; each is a list of one backup on several targets."""
        draft = replace(draft, wanted=copies[0][0].time)
        jobs = self._jobs.get(self._same.key(draft.rule.destination), [])
        stands = stays(draft, copies[0], at, history, self._world.now)
        done = stands.verdict is Verdict.CURRENT and not history.may_restore(copies[0])
        active = next((job for job in jobs if job.phase is JobPhase.ACTIVE), None)
        if active is not None and not done:
            other = "" if active.archive in {str(entry.ref) for entry in copies[0]} else " with another backup"
            why = f"job {printable(active.name)} is {active.state}{other}"
            return replace(draft, verdict=Verdict.QUEUED, reason=why, entry=copies[0][0])
        if history.lines and not at.exists:
            last = date_of(history.lines[-1].time)
            why = f"restored on {last}, and no longer there. To have it restored again, delete its lines in the ledger"
            return replace(draft, verdict=Verdict.GONE, reason=why, entry=copies[0][0])
        if not history.may_restore(copies[0]):
            return stands
        if history.lines and not at.ours:
            draft = replace(draft, warnings=(*draft.warnings, not_ours(at, known=True)))
        return self._of_newer(draft, copies, at, history)

    def _of_newer(self, draft: RuleDecision, copies: list[list[CatalogEntry]], at: DiskState, history: History) -> RuleDecision:
        """Decides by the jobs, where the newest backup may be restored. With `fall_back_to_older` an older one may be taken."""
        jobs = self._jobs.get(self._same.key(draft.rule.destination), [])
        fell_back = ""
        for every in copies:
            same = _best_copies(every, jobs, self._world.now)
            if not history.may_restore(every):
                is_here = history.here is not None and history.here.is_one_of(every)
                why = f"the backup of {date_of(same[0].time)} has been restored there" if is_here else _OLDER_THAN_REPLICA
                return replace(draft, verdict=Verdict.FAILED, reason=fell_back + why, entry=same[0] if is_here else None)
            refused = self._refused_by_jobs(same, jobs)
            if refused is None:
                return self._restore(draft, same, at, known=bool(history.lines), why=fell_back)
            why, take_older = refused
            if not take_older:
                return replace(draft, verdict=Verdict.FAILED, reason=fell_back + why, entry=same[0])
            fell_back += f"the backup of {date_of(same[0].time)} failed its check, so the next older one is taken: "
        return replace(draft, verdict=Verdict.FAILED, reason=fell_back + "there is no older one")

    def _refused_by_jobs(self, same: list[CatalogEntry], jobs: list[QueuedJob]) -> tuple[str, bool] | None:
        """Returns why jobs in the queue forbid a restore now, and whether an older backup is taken; None if they do not."""
        now = self._world.now
        names = {str(entry.ref) for entry in same}
        mine = [
            job
            for job in jobs
            if (job.phase is JobPhase.CANCELLED and job.archive in names) or any(_failed_on(job, entry, now) for entry in same)
        ]
        if not mine:
            return None
        last = max(mine, key=lambda job: (job.finished is not None, job.finished, job.name))
        if last.phase is JobPhase.CANCELLED:
            return f"a person cancelled job {printable(last.name)}: 'phd retry' it, or remove it with 'phd clean'", False
        failures = sum(job.phase is JobPhase.FAILED for job in mine)
        times = "once" if failures == 1 else f"{failures} times"
        what = f"job {printable(last.name)} {last.state} ({times})"
        if last.exit_code == ExitCode.BAD_DATA and self._policy.fall_back_to_older:
            return what, True
        wait = min(self._policy.retry * 2 ** min(failures - 1, 16), self._policy.retry_most)
        # If the end is in the future, the clock was set back, and nobody knows how long ago the job ended.
        if last.finished is None or not last.finished <= now < last.finished + wait:
            return None
        return f"{what}: not again before {date_of(last.finished + wait)}", False

    def _restore(self, draft: RuleDecision, same: list[CatalogEntry], at: DiskState, *, known: bool, why: str) -> RuleDecision:
        silent = self._world.silent
        answering = sorted((one for one in same if one.ref.target not in silent and not one.stale), key=lambda entry: entry.ref)
        if not answering:
            ref = same[0].ref
            problem = silent.get(ref.target)
            where = f"{ref.target}, which does not answer: {problem}" if problem else f"{ref}, which cannot be seen now"
            reason = f"the backup of {date_of(same[0].time)} is on {where}"
            return replace(draft, verdict=Verdict.SILENT, reason=why + reason, entry=same[0])
        if at.exists and not at.ours:
            return replace(draft, verdict=Verdict.DIVERGED, reason=why + not_ours(at, known=known), entry=answering[0])
        reason = f"{why}the backup of {date_of(same[0].time)} is not in the ledger"
        return replace(draft, verdict=Verdict.RESTORE, reason=reason, entry=answering[0])

    def _warnings(self, deltas: Collection[CatalogEntry]) -> tuple[str, ...]:
        warnings = []
        if future := [entry.time for entry in deltas if entry.time > self._world.now]:
            newest = date_of(max(future))
            warnings.append(f"{len(future)} backups are dated in the future, up to {newest}, and are not used: check the clocks")
        if growing := sum(not entry.settled for entry in deltas):
            warnings.append(f"{growing} backups may still be on their way to the target, and are not used")
        return tuple(warnings)

    def _replica_time(self, history: History) -> dt.datetime | None:
        """Returns the time of the backup that is there; if that is not known, of the one that was restored last."""
        if history.here is not None and history.lines:
            return history.here.time
        return self._times.of(history.lines[-1].archive) if history.lines else None


class _SameDisk:
    """Returns the keys of paths. Only paths with the file name of a rule's are looked at: others may be where nothing answers."""

    def __init__(self, destinations: Iterable[Path], key: Callable[[Path], Hashable]) -> None:
        self._key, self._known = key, {path: key(path) for path in destinations}
        self._names = {_last_name(path) for path in self._known}

    def key(self, path: Path) -> Hashable:
        """Returns a key that is equal for two paths to one disk of the rules."""
        if path not in self._known:
            self._known[path] = self._key(path) if _last_name(path) in self._names else path
        return self._known[path]


def _last_name(path: Path) -> str:
    return searchable(path.name).replace("-flat.vmdk", ".vmdk")


def _fits(rule: Rule, entry: CatalogEntry) -> bool:
    return names_disk(rule, vm=entry.folder.vm, uuid=entry.folder.uuid, scsi=entry.name.scsi, vmdk=entry.name.disk)


def _failed_on(job: QueuedJob, entry: CatalogEntry, now: dt.datetime) -> bool:
    """Returns whether a job failed with this archive, and not with an earlier file of the same name."""
    replaced = job.finished is not None and job.finished.timestamp() < entry.stat.mtime <= now.timestamp()
    return job.phase is JobPhase.FAILED and job.archive == str(entry.ref) and not replaced


def _best_copies(same: list[CatalogEntry], jobs: list[QueuedJob], now: dt.datetime) -> list[CatalogEntry]:
    """Returns the copies of a backup without those that failed their check; all if none is left."""
    bad = [job for job in jobs if job.exit_code == ExitCode.BAD_DATA]
    return [entry for entry in same if not any(_failed_on(job, entry, now) for job in bad)] or same


def _too_new(rule: Rule, deltas: list[CatalogEntry], now: dt.datetime) -> str:
    past = [entry.time for entry in deltas if entry.settled and entry.time <= now]
    if not past:
        return "no backup of this disk can be used yet"
    age = "1 day" if rule.days == 1 else f"{rule.days} days"
    return f"no backup of this disk is {age} old yet; the oldest is of {date_of(min(past))}"
