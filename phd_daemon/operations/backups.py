"""The backups on the targets: which there are, which Fulls have a map, and which Deltas restore a whole VM."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from phd_daemon.config.model import Config
from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.host.catalog import catalog_of, fresh_catalog
from phd_daemon.operations.vm_disks import DisksAt, VmDisks, disks_at, not_known, scsi_ids
from restore_core import catalog
from restore_core.backup.subject import bus_and_unit
from restore_core.catalog import CatalogEntry, DiskKey
from restore_core.catalog.index import Indexed, refuse_emptied
from restore_core.catalog.left_out import with_left_out
from restore_core.catalog.query import Query
from restore_core.errors import ArchiveAbsent, TargetUnavailable, UsageError
from restore_core.naming import ArchiveType, comparable, printable, restored_name, time_text
from restore_core.targets import TargetSet
from restore_core.targets.base import ServerLimits, Target, TargetSpec
from restore_core.targets.gaps import Gap, refuse_partial
from restore_core.targets.kinds import make_target

_RUNS_SHOWN = 5
_NOT_WAITED_FOR = ServerLimits(connect=3.0, login=5.0, idle=5.0, tries=1)
"""For what a list can do without."""

Maps = frozenset[tuple[DiskKey, dt.datetime]]
"""Disk and time of each Full that has its empty Delta: the map of its blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """Backups in the order of their times, the Fulls that have a map, and what is known of each target that was asked."""

    entries: tuple[CatalogEntry, ...]
    maps: Maps
    targets: tuple[Indexed, ...]


def search(
    settings: Config,
    query: Query | None = None,
    *,
    kind: ArchiveType | None = None,
    only: Collection[str] = (),
    look: Collection[str] | None = (),
) -> Backups:
    """Returns the backups that fit, on the targets named in `only`, on all targets if none is named.

    Targets whose listing is too old are looked at first, and those in `look`; None looks at all. Raises `OSError`.
    """
    with fresh_catalog(settings, look=look) as held:
        targets = tuple(one for one in held.known() if not only or one.target in only)
        found: list[CatalogEntry] = []
        for spec in held.specs:
            entries = held.entries(query or Query(), targets={spec.name}) if not only or spec.name in only else ()
            away = any(one.target == spec.name and one.problem for one in targets)
            found += entries if away else with_left_out(held.folder, spec, entries, _open_quickly)
    chosen = sorted((entry for entry in found if kind in (None, entry.name.type)), key=lambda entry: (entry.time, entry.ref))
    # A filter lets a Full and its empty Delta through or neither: they share all but the type.
    maps = frozenset((entry.disk_key, entry.name.stamp) for entry in found if entry.name.empty_delta)
    return Backups(entries=tuple(chosen), maps=maps, targets=targets)


def _open_quickly(spec: TargetSpec) -> Target:
    return make_target(spec, _NOT_WAITED_FOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmBackup:
    """The Deltas of a VM from one backup run, by SCSI id; `newer` are later Deltas of single disks, newest first.

    `missing` are the last Deltas, up to then, of disks that the run does not hold; `left_out` are those that it was made without.
    """

    entries: tuple[CatalogEntry, ...]
    newer: tuple[CatalogEntry, ...]
    missing: tuple[CatalogEntry, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def not_in_it(self) -> tuple[str, ...]:
        """What a restore of it does not bring back, in sentences."""
        # Disks with other names may have had the same place in the VM: the last of them is the one that was left out.
        last = {entry.name.scsi: entry for entry in sorted(self.missing, key=lambda entry: entry.time)}
        left_out = {scsi: disk for disk in self.left_out for scsi in scsi_ids((disk,))}
        skipped = {entry.ref for scsi, entry in last.items() if scsi in left_out}
        gone = [
            f"{'left out of' if entry.ref in skipped else 'not in'} this backup: {printable(entry.name.disk)} "
            f"({bus_and_unit(entry.name.scsi)}), last backed up {time_text(entry.time)} UTC, {entry.ref}"
            for entry in self.missing
        ]
        return (*gone, *(f"left out of this backup: {printable(disk)}" for scsi, disk in left_out.items() if scsi not in last))


def deltas_of_vm(
    settings: Config, targets: TargetSet, *, vm: str, uuid: str | None = None, at: dt.datetime | None = None
) -> VmBackup:
    """Lists all targets and returns `newest_common_set`. Raises the error of a target that does not tell all it holds."""
    cache = catalog_of(settings)
    known: list[CatalogEntry] = []
    for name, spec in targets.specs.items():
        gaps: list[Gap] = []
        try:
            found = list(catalog.entries(targets[name], gaps))
            refuse_partial(name, [gap for gap in gaps if gap.may_hide(vm, uuid)], cache.held_folders(spec))
            if not found and not gaps:
                refuse_emptied(spec, cache.held(spec))
        except TargetUnavailable as error:
            choose = f"The newest backup may be there; to take another one, name its DELTA ('phd backups --vm {printable(vm)}')."
            error.remedy = f"{error.remedy} {choose}".strip()
            raise
        known += found
    return newest_common_set(known, vm=vm, uuid=uuid, at=at, disks_of=disks_at(targets))


def _meant(vm: str, entries: Iterable[CatalogEntry]) -> str:
    known = {entry.folder.vm for entry in entries}
    return "" if comparable(vm) in map(comparable, known) else did_you_mean(vm, sorted(known))


def why_nothing(settings: Config, vm: str | None, *, filtered: bool) -> str:
    """Returns why a search found nothing, and what to type next."""
    with fresh_catalog(settings) as held:
        names = sorted({entry.folder.vm for entry in held.entries()})
    if not names:
        return "no backup is on any target: 'phd targets' shows what they are, 'phd backup --help' how to make one"
    if vm is not None and comparable(vm) not in map(comparable, names) and not set("*?") & set(vm):
        return f"no backup is of a VM named {printable(vm)}{did_you_mean(vm, names)}; 'phd backups' lists all"
    return "nothing matches all of these options: leave one out" if filtered else "no backup is on these targets"


def newest_common_set(
    entries: Iterable[CatalogEntry],
    *,
    vm: str,
    uuid: str | None = None,
    at: dt.datetime | None = None,
    disks_of: DisksAt = not_known,
) -> VmBackup:
    """Returns the newest backup run at or before `at` (aware; None: of all) that holds every disk of the VM.

    These are the disks that the VM had then and that were not left out, by `disks_of`; where that is not known, those it has
    backups of by then. Disks of two points in time are no VM. Where no run holds every disk, `at` must be that of a run. The same
    backup on two targets counts once, the first one listed. Raises `UsageError` when several VMs have that name, no run can be
    taken, or two disks would get the same file, and `ArchiveAbsent` when there is nothing.
    """
    entries = list(entries)
    known = _history(entries, vm, uuid, at)
    if not known.runs:
        when = f" at or before {at:%Y-%m-%d %H:%M %Z}" if at else ""
        raise ArchiveAbsent(
            f"no Delta of the VM {printable(vm)}{when} is on any target{_meant(vm, entries)}",
            remedy="'phd backups' lists what there is.",
        )
    newest, whole = next(_whole_runs(known, disks_of))
    taken = whole or at
    if taken is None or taken not in known.runs:
        raise _no_common_set(vm, known.runs)
    return _vm_backup(known, taken, newest, disks_of)


def runs_of_vm(
    entries: Iterable[CatalogEntry], *, vm: str, uuid: str | None = None, disks_of: DisksAt = not_known
) -> list[VmBackup]:
    """Returns each run that `newest_common_set` takes when it is asked for that time, the newest first. Raises as it does."""
    known = _history(entries, vm, uuid)
    found: dict[dt.datetime, VmBackup] = {}
    for time, whole in _whole_runs(known, disks_of):
        taken = whole or time
        if taken not in found:
            found[taken] = _vm_backup(known, taken, time, disks_of)
    return list(found.values())


_Run: TypeAlias = Mapping[DiskKey, CatalogEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """The Deltas of one VM: its runs, the oldest first, their times, and for each time the last Delta of every disk by then."""

    vm: str
    times: list[dt.datetime]
    runs: dict[dt.datetime, _Run]
    ever: dict[dt.datetime, _Run]


def _history(entries: Iterable[CatalogEntry], vm: str, uuid: str | None, at: dt.datetime | None = None) -> _History:
    runs: dict[dt.datetime, dict[DiskKey, CatalogEntry]] = {}
    for entry in _of_one_vm(entries, vm, uuid):
        if at is None or entry.time <= at:
            # A disk that older versions called X-flat.vmdk is the same as X.vmdk: they would be restored to one file.
            key = entry.disk_key._replace(disk=restored_name(entry.disk_key.disk))
            runs.setdefault(entry.time, {}).setdefault(key, entry)
    times, ever, last = sorted(runs), dict[dt.datetime, _Run](), dict[DiskKey, CatalogEntry]()
    for time in times:
        last = ever[time] = {**last, **runs[time]}
    return _History(vm=vm, times=times, runs={time: runs[time] for time in times}, ever=ever)


def _whole_runs(known: _History, disks_of: DisksAt) -> Iterator[tuple[dt.datetime, dt.datetime | None]]:
    """Yields each time, the newest first, with that of the newest run up to then that holds every disk; None if there is none.

    These are the disks that the VM had then, or all that had a backup by then. No run is looked at twice, and none that need not
    be: to learn which disks a VM had, `disks_of` reads a Delta.
    """
    times, last, disks = known.times, -1, 0
    of_all: list[int] = []  # for each time the last run that holds every disk which had a backup by then, -1 if there is none
    for at, time in enumerate(times):
        before, disks = disks, len(known.ever[time])
        last = at if len(known.runs[time]) == disks else last if disks == before else -1
        of_all.append(last)
    place = len(times) - 1  # where the search for a run with all disks of the VM has come to, downwards
    for at in reversed(range(len(times))):
        place = min(place, at)
        while place > of_all[at] and not _holds_all(known.runs[times[place]], disks_of):
            place -= 1
        taken = max(place, of_all[at])
        yield times[at], times[taken] if taken >= 0 else None


def _holds_all(run: _Run, disks_of: DisksAt) -> bool:
    """Whether a run is known to hold every disk that the VM had then."""
    then = _disks_then(run, disks_of)
    return then is not None and bool(then.backed_up) and then.backed_up <= {key.scsi for key in run}


def _disks_then(run: _Run, disks_of: DisksAt) -> VmDisks | None:
    return next(filter(None, map(disks_of, run.values())), None)


def _vm_backup(known: _History, taken: dt.datetime, until: dt.datetime, disks_of: DisksAt) -> VmBackup:
    """Returns the run of the time `taken`; `newer` is up to `until`. Raises `UsageError` if two disks would get the same file."""
    run, times = known.runs[taken], known.times
    names = [key.disk for key in run]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"two disks of {printable(known.vm)} are named {printable(twice)}",
            remedy="Submit each with a DELTA and a --to of its own.",
        )
    later = times[bisect.bisect_right(times, taken) : bisect.bisect_right(times, until)]
    gone = sorted(((key, entry) for key, entry in known.ever[taken].items() if key not in run), key=lambda item: item[0].scsi)
    then, held = _disks_then(run, disks_of), {key.scsi for key in run}
    return VmBackup(
        entries=tuple(sorted(run.values(), key=lambda entry: entry.name.scsi)),
        newer=tuple(entry for time in reversed(later) for entry in known.runs[time].values()),
        missing=tuple(entry for _, entry in gone),
        left_out=tuple(disk for disk in then.left_out if not scsi_ids((disk,)) & held) if then is not None else (),
    )


def _of_one_vm(entries: Iterable[CatalogEntry], vm: str, uuid: str | None) -> list[CatalogEntry]:
    mine = [entry for entry in entries if entry.name.type is ArchiveType.DELTA and entry.disk_key.vm == comparable(vm)]
    if uuid is not None:
        mine = [entry for entry in mine if entry.disk_key.uuid == uuid.lower()]
    machines = {entry.disk_key.uuid for entry in mine}
    if len(machines) > 1:
        known = ", ".join(sorted(printable(one or "none (version 2)") for one in machines))
        raise UsageError(f"several VMs are named {printable(vm)}: {known}", remedy="Name the UUID of one with --uuid.")
    return mine


def _no_common_set(vm: str, runs: Mapping[dt.datetime, _Run]) -> UsageError:
    """Returns the refusal, with the newest runs and the disks in each as the choice."""
    shown = [
        f"{time_text(time)} UTC: {', '.join(sorted(printable(entry.name.disk) for entry in runs[time].values()))}"
        for time in sorted(runs, reverse=True)[:_RUNS_SHOWN]
    ]
    return UsageError(
        f"no backup run holds all disks of the VM {printable(vm)}; there are, newest first: {'; '.join(shown)}",
        remedy='Take the disks of one run with --at "YYYY-MM-DD HH:MM+00:00", its exact time, or submit each disk by its DELTA.',
    )
