"""Which Deltas bring back a whole VM: for each of its disks the newest one at or before a time. Pure: entries in, entries out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from restore_core.catalog import CatalogEntry
from restore_core.errors import ArchiveAbsent, UsageError
from restore_core.naming import ArchiveType, printable


def newest_of_each_disk(
    entries: Iterable[CatalogEntry], *, vm: str, uuid: str | None = None, at: dt.datetime | None = None
) -> list[CatalogEntry]:
    """One Delta a disk, ordered by SCSI id; `at` is aware, None means now and whatever lies there.

    The same backup on two targets counts once, the first one listed. Raises `UsageError` when several VMs have that
    name or two disks would get the same file, `ArchiveAbsent` when there is nothing.
    """
    mine = [entry for entry in entries if entry.name.type is ArchiveType.DELTA and entry.folder.vm == vm]
    if uuid is not None:
        mine = [entry for entry in mine if entry.folder.uuid == uuid]
    machines = {entry.folder.uuid for entry in mine}
    if len(machines) > 1:
        known = ", ".join(sorted(printable(one or "none (version 2)") for one in machines))
        raise UsageError(f"several VMs are named {printable(vm)}: {known}", remedy="Say which one with --uuid.")
    newest: dict[tuple[str, str, str], CatalogEntry] = {}
    for entry in mine:
        if at is None or entry.time <= at:
            known_one = newest.get(entry.disk_key)
            if known_one is None or entry.time > known_one.time:
                newest[entry.disk_key] = entry
    if not newest:
        when = f" at or before {at:%Y-%m-%d %H:%M %Z}" if at else ""
        raise ArchiveAbsent(
            f"no Delta of the VM {printable(vm)}{when} is on any target", remedy="'phd backups' lists what there is."
        )
    found = sorted(newest.values(), key=lambda entry: entry.name.scsi)
    names = [entry.name.disk for entry in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"two disks of {printable(vm)} are named {printable(twice)}",
            remedy="Submit them one by one, each to a path of its own.",
        )
    return found
