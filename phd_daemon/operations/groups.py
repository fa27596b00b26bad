"""The backups on the targets in the groups that people look for: by machine, by VMDK name, by day. Pure.

Machines with one name are told apart by their UUID; a version-2 backup has none and is listed under the name of its host. Days are
days in UTC. The newest backup is first: people seldom want the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from restore_core.catalog import CatalogEntry
from restore_core.naming import ArchiveType, printable, searchable

VERSION_2 = "version 2, by host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Backups that belong together, newest first, under a title."""

    title: str
    entries: tuple[CatalogEntry, ...]


def machine_of(entry: CatalogEntry) -> str:
    """Returns the name and the UUID of the machine of a backup."""
    return f"{printable(entry.folder.vm)} ({printable(entry.folder.uuid or VERSION_2)})"


def by_machine(entries: Iterable[CatalogEntry]) -> list[Group]:
    """Returns one group for each virtual machine, by name and then UUID."""
    found = _grouped(entries, lambda entry: (searchable(entry.folder.vm), entry.disk_key.vm, entry.disk_key.uuid))
    return [Group(title=machine_of(mine[0]), entries=mine) for _, mine in sorted(found.items())]


def by_vmdk(entries: Iterable[CatalogEntry]) -> list[Group]:
    """Returns one group for each name of a VMDK, whatever its machines."""
    found = _grouped(entries, lambda entry: (searchable(entry.name.disk), entry.disk_key.disk, ""))
    return [Group(title=printable(mine[0].name.disk), entries=mine) for _, mine in sorted(found.items())]


def by_day(group: Group) -> list[tuple[str, Group]]:
    """Returns each day with its backups, in the order of the group."""
    found = _grouped(group.entries, lambda entry: (f"{entry.time:%Y-%m-%d}", "", ""))
    return [(day, Group(title=f"{group.title}, {day}", entries=mine)) for (day, _, _), mine in found.items()]


def proposed(entries: Sequence[CatalogEntry]) -> int | None:
    """Returns the place of the newest Delta that is complete for certain; where there is none, of the newest such Full."""
    for kind in (ArchiveType.DELTA, ArchiveType.FULL):
        for index, entry in enumerate(entries):
            if entry.name.type is kind and entry.settled:
                return index
    return None


def newest_first(entries: Iterable[CatalogEntry]) -> tuple[CatalogEntry, ...]:
    """Returns the backups, newest first; disks of one backup by their SCSI id, a Delta before its Full."""
    ordered = sorted(entries, key=lambda entry: (entry.name.scsi, entry.name.type.value, entry.ref))
    return tuple(sorted(ordered, key=lambda entry: entry.time, reverse=True))


def _grouped(
    entries: Iterable[CatalogEntry], key: Callable[[CatalogEntry], tuple[str, str, str]]
) -> dict[tuple[str, str, str], tuple[CatalogEntry, ...]]:
    found: dict[tuple[str, str, str], list[CatalogEntry]] = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    return {name: tuple(mine) for name, mine in found.items()}
