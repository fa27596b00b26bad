"""Which backup each rule asks for now, and why. A pure function: no clock, no file, no queue of its own.

For every rule, in this order; the first that holds decides:

    no Delta of the disk on any target                      no backup
    the rule fits two different disks                       ambiguous
    no backup is old enough (-N)                            too new
    a job is to write to that destination                   queued
    the ledger names the destination, the disk is gone      gone        never made anew by itself
    the newest fitting backup lies there, restored by us    up to date
    it is not newer than all that were restored there       OLDER       a replica never goes back by itself
      while what lies there is too new for the rule         ahead       its days were changed, or a person restored it
      while somebody has written the disk                   diverged
    it failed, or was cancelled                             failed      tried again later, or the next older one
    its target does not answer                              silent
    a disk lies there that we did not write last            diverged    it may be the only copy of somebody's work
    otherwise                                               restore
"""

from __future__ import annotations

import datetime as dt
import enum
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

from restore_core.catalog import CatalogEntry
from restore_core.errors import ExitCode
from restore_core.naming import ArchiveType, printable, scsi_colon
from restore_core.replication.decision import DAY, RuleDecision, Verdict, ahead, date_of, not_ours, stays
from restore_core.replication.history import DiskState, History, Times, history_of
from restore_core.replication.ledger import Ledger, LedgerLine
from restore_core.replication.rules import Rule, names_disk

__all__ = ["DiskState", "JobPhase", "PassPolicy", "QueuedJob", "RuleDecision", "Verdict", "World", "select"]
_OLDER_THAN_REPLICA = "the next older one is older than the replica"


class JobPhase(enum.Enum):
    """Where a job is, as far as a rule cares."""

    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """One job of the queue, finished ones included; `finished` is aware, `state` the word for people."""

    name: str
    state: str
    phase: JobPhase
    archive: str
    destination: Path
    finished: dt.datetime | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPolicy:
    """`retry` is the wait after a first failure; it doubles up to `retry_most`."""

    storm_limit: int = 10
    fall_back_to_older: bool = False
    retry: dt.timedelta = dt.timedelta(hours=1)
    retry_most: dt.timedelta = dt.timedelta(hours=24)


def _as_written(path: Path) -> Hashable:
    return os.path.normpath(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything a pass looks at. `silent` are targets whose listing is stale, with the reason; `now` is aware.

    `key` is equal for two paths to one disk: rules, ledger and jobs may spell them differently.
    """

    entries: Iterable[CatalogEntry]
    ledger: Ledger
    jobs: Sequence[QueuedJob]
    destinations: Mapping[Path, DiskState]
    now: dt.datetime
    silent: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, ZoneInfo] = field(default_factory=dict)
    key: Callable[[Path], Hashable] = _as_written


def select(rules: Sequence[Rule], world: World, policy: PassPolicy) -> tuple[RuleDecision, ...]:
    """One decision a rule, in their order. More new restores than the storm limit are all held for a person to look at."""
    matcher = _Matcher(rules, world, policy)
    decisions = tuple(matcher.decide(rule) for rule in rules)
    new = sum(decision.verdict is Verdict.RESTORE for decision in decisions)
    if new <= policy.storm_limit:
        return decisions
    return tuple(replace(one, held=True) if one.verdict is Verdict.RESTORE else one for one in decisions)


class _Matcher:
    """The world, sorted for looking things up."""

    def __init__(self, rules: Sequence[Rule], world: World, policy: PassPolicy) -> None:
        self._world, self._policy = world, policy
        wanted = {(rule.vm, rule.vmdk) for rule in rules}
        self._by_name: dict[tuple[str, str], list[CatalogEntry]] = {}
        for entry in world.entries:
            key = (entry.folder.vm, entry.name.disk)
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
        """The verdict on one rule."""
        at = self._world.destinations.get(rule.destination, DiskState(exists=False))
        lines = tuple(self._restored.get(self._same.key(rule.destination), ()))
        history = history_of(lines, at, self._times, self._world.now)
        replica = self._replica_time(history)
        draft = RuleDecision(rule=rule, verdict=Verdict.NO_BACKUP, reason="", replica=replica, unseen=at.unseen)
        found = [entry for entry in self._by_name.get((rule.vm, rule.vmdk), ()) if _fits(rule, entry)]
        deltas = [entry for entry in found if entry.name.type is ArchiveType.DELTA]
        if not deltas:
            why = "only Fulls without a map: 'phd adopt' makes their empty Deltas" if found else "no backup of it is on any target"
            return ahead(replace(draft, reason=why), history, self._world.now)
        disks = sorted({(entry.folder.uuid or f"version 2 of {entry.folder.vm}", entry.name.scsi) for entry in deltas})
        if len(disks) > 1:
            named = "; ".join(f"{printable(uuid)} at {scsi_colon(scsi)}" for uuid, scsi in disks)
            return replace(draft, verdict=Verdict.AMBIGUOUS, reason=f"it fits {len(disks)} different disks: {named}")
        draft = replace(draft, warnings=self._warnings(deltas))
        latest = self._world.now - rule.days * DAY
        offered = sorted(
            (entry for entry in deltas if entry.settled and entry.time <= latest), key=lambda entry: entry.time, reverse=True
        )
        if not offered:
            why = _too_new(rule, deltas, self._world.now)
            return ahead(replace(draft, verdict=Verdict.TOO_NEW, reason=why), history, self._world.now)
        copies = [list(group) for _, group in groupby(offered, key=lambda entry: entry.time)]
        return self._of_copies(draft, copies, at, history)

    def _of_copies(self, draft: RuleDecision, copies: list[list[CatalogEntry]], at: DiskState, history: History) -> RuleDecision:
        """`copies` are the fitting backups, newest first, each a list of the same backup on several targets."""
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
            why = f"restored on {last}, and gone since. To have it made anew, delete its lines in the ledger"
            return replace(draft, verdict=Verdict.GONE, reason=why)
        if not history.may_restore(copies[0]):
            return stands
        if history.lines and not at.ours:
            draft = replace(draft, warnings=(*draft.warnings, not_ours(at, known=True)))
        return self._of_newer(draft, copies, at, history)

    def _of_newer(self, draft: RuleDecision, copies: list[list[CatalogEntry]], at: DiskState, history: History) -> RuleDecision:
        """The newest of the copies may be restored; what the jobs say of it, and with `fall_back_to_older` of older ones."""
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
            verdict, why, bad_data = refused
            if not (bad_data and self._policy.fall_back_to_older):
                return replace(draft, verdict=verdict, reason=fell_back + why, entry=same[0])
            fell_back += f"the backup of {date_of(same[0].time)} failed its check, so the next older one is taken: "
        return replace(draft, verdict=Verdict.FAILED, reason=fell_back + "there is no older one")

    def _refused_by_jobs(self, same: list[CatalogEntry], jobs: list[QueuedJob]) -> tuple[Verdict, str, bool] | None:
        """Why the queue speaks against a restore, and whether it was the archive's fault."""
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
            why = f"job {printable(last.name)} was cancelled by a person: 'phd retry' it, or remove it from the queue"
            return Verdict.FAILED, why, False
        failures = sum(job.phase is JobPhase.FAILED for job in mine)
        times = "once" if failures == 1 else f"{failures} times"
        what = f"job {printable(last.name)} {last.state} ({times})"
        if last.exit_code == ExitCode.BAD_DATA and self._policy.fall_back_to_older:
            return Verdict.FAILED, what, True
        wait = min(self._policy.retry * 2 ** min(failures - 1, 16), self._policy.retry_most)
        # An end in the future: the clock was set back, and says nothing about how long ago it was.
        if last.finished is None or not last.finished <= now < last.finished + wait:
            return None
        return Verdict.FAILED, f"{what}: not again before {date_of(last.finished + wait)}", False

    def _restore(self, draft: RuleDecision, same: list[CatalogEntry], at: DiskState, *, known: bool, why: str) -> RuleDecision:
        silent = self._world.silent
        answering = sorted((one for one in same if one.ref.target not in silent and not one.stale), key=lambda entry: entry.ref)
        if not answering:
            why_not = silent.get(same[0].ref.target)
            where = (
                f"{same[0].ref.target}, which does not answer: {why_not}" if why_not else f"{same[0].ref}, which cannot be seen now"
            )
            reason = f"the backup of {date_of(same[0].time)} is on {where}"
            return replace(draft, verdict=Verdict.SILENT, reason=why + reason, entry=same[0])
        if at.exists and not at.ours:
            reason = not_ours(at, known=known)
            return replace(draft, verdict=Verdict.DIVERGED, reason=why + reason, entry=answering[0])
        reason = f"{why}the backup of {date_of(same[0].time)} is not in the ledger"
        return replace(draft, verdict=Verdict.RESTORE, reason=reason, entry=answering[0])

    def _warnings(self, deltas: Collection[CatalogEntry]) -> tuple[str, ...]:
        warnings = []
        future = [entry for entry in deltas if entry.time > self._world.now]
        if future:
            newest = max(future, key=lambda entry: entry.time)
            warnings.append(f"{len(future)} skipped that are dated in the future, up to {date_of(newest.time)}: check the clocks")
        growing = sum(not entry.settled for entry in deltas)
        if growing:
            warnings.append(f"{growing} skipped that may still be on their way to the target")
        return tuple(warnings)

    def _replica_time(self, history: History) -> dt.datetime | None:
        """The time of the backup that lies there, or else was restored last."""
        if history.here is not None and history.lines:
            return history.here.time
        return self._times.of(history.lines[-1].archive) if history.lines else None


class _SameDisk:
    """The keys of paths. Only those that end like a path of a rule are looked at: another may lie where nothing answers."""

    def __init__(self, destinations: Iterable[Path], key: Callable[[Path], Hashable]) -> None:
        self._key, self._known = key, {path: key(path) for path in destinations}
        self._names = {_last_name(path) for path in self._known}

    def key(self, path: Path) -> Hashable:
        """Equal for two paths to one disk of the rules."""
        if path not in self._known:
            self._known[path] = self._key(path) if _last_name(path) in self._names else path
        return self._known[path]


def _last_name(path: Path) -> str:
    return path.name.casefold().replace("-flat.vmdk", ".vmdk")


def _fits(rule: Rule, entry: CatalogEntry) -> bool:
    return names_disk(rule, vm=entry.folder.vm, uuid=entry.folder.uuid, scsi=entry.name.scsi, vmdk=entry.name.disk)


def _failed_on(job: QueuedJob, entry: CatalogEntry, now: dt.datetime) -> bool:
    """A failure of this very archive, that does not belong to an earlier file of its name."""
    replaced = job.finished is not None and job.finished.timestamp() < entry.stat.mtime <= now.timestamp()
    return job.phase is JobPhase.FAILED and job.archive == str(entry.ref) and not replaced


def _best_copies(same: list[CatalogEntry], jobs: list[QueuedJob], now: dt.datetime) -> list[CatalogEntry]:
    """The copies of a backup but those that failed their check; all of them if none is left."""
    bad = [job for job in jobs if job.exit_code == ExitCode.BAD_DATA]
    return [entry for entry in same if not any(_failed_on(job, entry, now) for job in bad)] or same


def _too_new(rule: Rule, deltas: list[CatalogEntry], now: dt.datetime) -> str:
    past = [entry for entry in deltas if entry.settled and entry.time <= now]
    if not past:
        return "no backup of it can be used yet"
    oldest = min(past, key=lambda entry: entry.time)
    return f"no backup of it is {rule.days} {'day' if rule.days == 1 else 'days'} old yet; the oldest is of {date_of(oldest.time)}"
