"""What the targets hold as rows of lists: machines, VMDK names, days, backups. Times are UTC, as in all tables."""

from __future__ import annotations

from collections.abc import Iterable

from phd_daemon.console.face import Row
from phd_daemon.operations.backups import Maps
from phd_daemon.operations.groups import VERSION_2, Group, by_day, by_machine, by_vmdk, machine_of
from phd_daemon.show import output
from phd_daemon.show.archives import type_of
from phd_daemon.show.output import counted
from restore_core.catalog import CatalogEntry
from restore_core.naming import printable, scsi_colon

ARRIVING = "it is so new that it may still be on its way to the target; look again in a minute"
MACHINE_COLUMNS = ("VM", "UUID", "DISKS", "BACKUPS", "NEWEST (UTC)")
VMDK_COLUMNS = ("VMDK", "MACHINES", "BACKUPS", "NEWEST (UTC)")
BACKUP_COLUMNS = ("TARGET", "SIZE", "TYPE", "DATE (UTC)", "SCSI", "VMDK")


def machines(entries: Iterable[CatalogEntry]) -> list[Row[Group]]:
    """One row for each virtual machine."""
    return [_machine(group) for group in by_machine(entries)]


def vmdks(entries: Iterable[CatalogEntry]) -> list[Row[Group]]:
    """One row for each name of a VMDK."""
    return [_vmdk(group) for group in by_vmdk(entries)]


def days(group: Group) -> list[Row[Group]]:
    """All Dates, then one row for each day."""
    rows = [Row(cells=(day, counted(len(mine.entries), "backup")), value=mine) for day, mine in by_day(group)]
    return [Row(cells=("All Dates", counted(len(group.entries), "backup")), value=group, key="a"), *rows]


def backups(group: Group, maps: Maps) -> list[Row[CatalogEntry]]:
    """One row for each backup. The name of the machine is the last column where there are several machines."""
    several = len({(entry.folder.vm, entry.folder.uuid) for entry in group.entries}) > 1
    return [_backup(entry, maps, several=several) for entry in group.entries]


def _machine(group: Group) -> Row[Group]:
    newest, folder = group.entries[0], group.entries[0].folder
    disks = len({(entry.name.scsi, entry.name.disk) for entry in group.entries})
    uuid = printable(folder.uuid or VERSION_2)
    cells = (printable(folder.vm), uuid, str(disks), str(len(group.entries)), f"{newest.time:%Y-%m-%d %H:%M}")
    return Row(cells=cells, value=group)


def _vmdk(group: Group) -> Row[Group]:
    names = sorted({printable(entry.folder.vm) for entry in group.entries})
    who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Row(cells=(group.title, who, str(len(group.entries)), f"{group.entries[0].time:%Y-%m-%d %H:%M}"), value=group)


def _backup(entry: CatalogEntry, maps: Maps, *, several: bool) -> Row[CatalogEntry]:
    cells = (
        entry.ref.target,
        output.size(entry.stat.size),
        type_of(entry, maps) + (", not seen" if entry.stale else ""),
        f"{entry.time:%Y-%m-%d %H:%M}",
        scsi_colon(entry.name.scsi),
        printable(entry.name.disk),
    )
    whose = (machine_of(entry),) if several else ()
    return Row(cells=(*cells, *whose), value=entry, refused="" if entry.settled else ARRIVING)
