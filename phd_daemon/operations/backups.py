"""The backups on the targets: which there are, which Fulls have a map, and which Deltas restore a whole VM."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from phd_daemon.config.model import Config
from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.host.catalog import catalog_of, fresh_catalog
from phd_daemon.operations.vm_disks import DisksAt, disks_at, not_known
from restore_core import catalog
from restore_core.backup.subject import bus_and_unit
from restore_core.catalog import CatalogEntry, DiskKey
from restore_core.catalog.index import Indexed, refuse_emptied
from restore_core.catalog.left_out import with_left_out
from restore_core.catalog.query import Query
from restore_core.errors import ArchiveAbsent, TargetUnavailable, UsageError
from restore_core.naming import ArchiveType, comparable, printable, time_text
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
        gone = [
            f"not in this backup: {printable(entry.name.disk)} ({bus_and_unit(entry.name.scsi)}), last backed up "
            f"{time_text(entry.time)} UTC, {entry.ref}"
            for entry in self.missing
        ]
        return (*gone, *(f"left out of this backup: {printable(disk)}" for disk in self.left_out))


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
    mine = _of_one_vm(entries, vm, uuid)
    runs: dict[dt.datetime, dict[DiskKey, CatalogEntry]] = {}
    for entry in mine:
        if at is None or entry.time <= at:
            runs.setdefault(entry.time, {}).setdefault(entry.disk_key, entry)
    if not runs:
        when = f" at or before {at:%Y-%m-%d %H:%M %Z}" if at else ""
        raise ArchiveAbsent(
            f"no Delta of the VM {printable(vm)}{when} is on any target{_meant(vm, entries)}",
            remedy="'phd backups' lists what there is.",
        )
    disks = {key for run in runs.values() for key in run}
    taken = next((time for time in sorted(runs, reverse=True) if _is_whole(runs[time], disks, disks_of)), at)
    if taken is None or taken not in runs:
        raise _no_common_set(vm, runs)
    later = [entry for time in sorted(runs, reverse=True) if time > taken for entry in runs[time].values()]
    found = sorted(runs[taken].values(), key=lambda entry: entry.name.scsi)
    names = [entry.disk_key.disk for entry in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"two disks of {printable(vm)} are named {printable(twice)}",
            remedy="Submit each with a DELTA and a --to of its own.",
        )
    then = disks_of(found[0])
    missing = {entry.disk_key: entry for time in sorted(runs) if time <= taken for entry in runs[time].values()}
    gone = [entry for key, entry in sorted(missing.items(), key=lambda item: item[0].scsi) if key not in runs[taken]]
    return VmBackup(
        entries=tuple(found), newer=tuple(later), missing=tuple(gone), left_out=then.left_out if then is not None else ()
    )


def _is_whole(run: Mapping[DiskKey, CatalogEntry], ever: Collection[DiskKey], disks_of: DisksAt) -> bool:
    """Whether a run holds every disk that the VM had then; where that is not known, every disk that has a backup."""
    if len(run) == len(ever):
        return True
    then = next(filter(None, map(disks_of, run.values())), None)
    return then is not None and bool(then.backed_up) and then.backed_up <= {key.scsi for key in run}


def runs_of_vm(
    entries: Iterable[CatalogEntry], *, vm: str, uuid: str | None = None, disks_of: DisksAt = not_known
) -> list[VmBackup]:
    """Returns each run that `newest_common_set` takes when it is asked for that time, the newest first. Raises as it does."""
    mine = [entry for entry in entries if entry.name.type is ArchiveType.DELTA]
    found: dict[dt.datetime, VmBackup] = {}
    for time in sorted({entry.time for entry in mine}, reverse=True):
        run = newest_common_set(mine, vm=vm, uuid=uuid, at=time, disks_of=disks_of)
        found.setdefault(run.entries[0].time, run)
    return list(found.values())


def _of_one_vm(entries: Iterable[CatalogEntry], vm: str, uuid: str | None) -> list[CatalogEntry]:
    mine = [entry for entry in entries if entry.name.type is ArchiveType.DELTA and entry.disk_key.vm == comparable(vm)]
    if uuid is not None:
        mine = [entry for entry in mine if entry.disk_key.uuid == uuid.lower()]
    machines = {entry.disk_key.uuid for entry in mine}
    if len(machines) > 1:
        known = ", ".join(sorted(printable(one or "none (version 2)") for one in machines))
        raise UsageError(f"several VMs are named {printable(vm)}: {known}", remedy="Name the UUID of one with --uuid.")
    return mine


def _no_common_set(vm: str, runs: Mapping[dt.datetime, Mapping[DiskKey, CatalogEntry]]) -> UsageError:
    """Returns the refusal, with the newest runs and the disks in each as the choice."""
    shown = [
        f"{time_text(time)} UTC: {', '.join(sorted(printable(entry.name.disk) for entry in runs[time].values()))}"
        for time in sorted(runs, reverse=True)[:_RUNS_SHOWN]
    ]
    return UsageError(
        f"no backup run holds all disks of the VM {printable(vm)}; there are, newest first: {'; '.join(shown)}",
        remedy='Take the disks of one run with --at "YYYY-MM-DD HH:MM+00:00", its exact time, or submit each disk by its DELTA.',
    )
