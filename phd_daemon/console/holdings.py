"""What the targets hold, in the groups people look for it: by machine, by VMDK name, by day. Pure: entries in, rows out.

Two machines of one name are told apart by their UUID; a version-2 backup has none and stands under the name of its host.
Times are UTC, as in all tables. Newest first: what is wanted is seldom the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from phd_daemon.console.face import Row
from phd_daemon.operations.backups import Maps
from phd_daemon.show import output
from phd_daemon.show.archives import type_of
from phd_daemon.show.output import counted
from restore_core.catalog import CatalogEntry
from restore_core.naming import ArchiveType, printable, scsi_colon

VERSION_2 = "version 2, by host"
ON_ITS_WAY = "it is so new that it may still be on its way to the target; look again in a minute"
MACHINE_COLUMNS = ("VM", "UUID", "DISKS", "BACKUPS", "NEWEST (UTC)")
VMDK_COLUMNS = ("VMDK", "MACHINES", "BACKUPS", "NEWEST (UTC)")
BACKUP_COLUMNS = ("TARGET", "SIZE", "TYPE", "DATE (UTC)", "SCSI", "VMDK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Backups that belong together, newest first, under a title."""

    title: str
    entries: tuple[CatalogEntry, ...]


def by_machine(entries: Iterable[CatalogEntry]) -> list[Row[Group]]:
    """One row a virtual machine, by name and then UUID."""
    found: dict[tuple[str, str], list[CatalogEntry]] = {}
    for entry in entries:
        found.setdefault((entry.folder.vm, entry.folder.uuid or ""), []).append(entry)
    return [_machine(vm, uuid, found[vm, uuid]) for vm, uuid in sorted(found, key=lambda key: (key[0].casefold(), key))]


def by_vmdk(entries: Iterable[CatalogEntry]) -> list[Row[Group]]:
    """One row a name of a VMDK, of whatever machines."""
    found: dict[str, list[CatalogEntry]] = {}
    for entry in entries:
        found.setdefault(entry.name.disk, []).append(entry)
    return [_vmdk(name, found[name]) for name in sorted(found, key=lambda name: (name.casefold(), name))]


def by_day(group: Group) -> list[Row[Group]]:
    """All Dates, then one row a day."""
    found: dict[str, list[CatalogEntry]] = {}
    for entry in group.entries:
        found.setdefault(f"{entry.time:%Y-%m-%d}", []).append(entry)
    days = [
        Row(cells=(day, counted(len(mine), "backup")), value=Group(title=f"{group.title}, {day}", entries=tuple(mine)))
        for day, mine in found.items()
    ]
    return [Row(cells=("All Dates", counted(len(group.entries), "backup")), value=group, key="a"), *days]


def backups(group: Group, maps: Maps) -> list[Row[CatalogEntry]]:
    """One row a backup. The name of the machine stands at the end where there are several."""
    several = len({(entry.folder.vm, entry.folder.uuid) for entry in group.entries}) > 1
    return [_backup(entry, maps, several=several) for entry in group.entries]


def proposed(entries: Sequence[CatalogEntry]) -> int | None:
    """The newest Delta that is there for certain; where there is none, the newest Full."""
    for kind in (ArchiveType.DELTA, ArchiveType.FULL):
        for index, entry in enumerate(entries):
            if entry.name.type is kind and entry.settled:
                return index
    return None


def newest_first(entries: Iterable[CatalogEntry]) -> tuple[CatalogEntry, ...]:
    """In the order of all lists here; disks of one backup by their SCSI id, a Delta before its Full."""
    ordered = sorted(entries, key=lambda entry: (entry.name.scsi, entry.name.type.value, entry.ref))
    return tuple(sorted(ordered, key=lambda entry: entry.time, reverse=True))


def _machine(vm: str, uuid: str, entries: list[CatalogEntry]) -> Row[Group]:
    name = printable(vm)
    disks = len({(entry.name.scsi, entry.name.disk) for entry in entries})
    cells = (name, printable(uuid) or VERSION_2, str(disks), str(len(entries)), f"{entries[0].time:%Y-%m-%d %H:%M}")
    return Row(cells=cells, value=Group(title=f"{name} ({printable(uuid) or VERSION_2})", entries=tuple(entries)))


def _vmdk(name: str, entries: list[CatalogEntry]) -> Row[Group]:
    machines = sorted({printable(entry.folder.vm) for entry in entries})
    who = ", ".join(machines[:3]) + (f" and {len(machines) - 3} more" if len(machines) > 3 else "")
    cells = (printable(name), who, str(len(entries)), f"{entries[0].time:%Y-%m-%d %H:%M}")
    return Row(cells=cells, value=Group(title=printable(name), entries=tuple(entries)))


def _backup(entry: CatalogEntry, maps: Maps, *, several: bool) -> Row[CatalogEntry]:
    cells = (
        entry.ref.target,
        output.size(entry.stat.size),
        type_of(entry, maps) + (", not seen" if entry.stale else ""),
        f"{entry.time:%Y-%m-%d %H:%M}",
        scsi_colon(entry.name.scsi),
        printable(entry.name.disk),
    )
    whose = (f"{printable(entry.folder.vm)} ({printable(entry.folder.uuid or VERSION_2)})",) if several else ()
    return Row(cells=(*cells, *whose), value=entry, refused="" if entry.settled else ON_ITS_WAY)
