"""The archives of a target, read from the names of its files.

A target that cannot be listed raises. The caller decides what that means for the other targets; it never means "holds nothing".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.naming import ArchiveName, ArchiveType, Folder
from restore_core.targets.base import ArchiveRef, FileStat, Target
from restore_core.targets.gaps import Gap


class DiskKey(NamedTuple):
    """Whose disk a backup is of: equal for all backups of one disk of one VM.

    A clone may have the UUID, the SCSI ids and the disk names of its original; the name of the VM tells them apart. `uuid` is in
    lower case, and empty for a version-2 backup, whose `vm` is the host.
    """

    vm: str
    uuid: str
    scsi: str
    disk: str

    @classmethod
    def of(cls, *, vm: str, uuid: str | None, scsi: str, disk: str) -> Self:
        """Returns the key of a disk of a VM. A name may come with its accents apart (NFD, from macOS): it is the same name."""
        return cls(vm=naming.comparable(vm), uuid=(uuid or "").lower(), scsi=scsi, disk=naming.comparable(disk))

    def alike(self, other: DiskKey) -> bool:
        """Whether all but the name of the VM is the same: a clone, or the same VM before it was renamed."""
        return self[1:] == other[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One archive. `time` is the stamp of its name in UTC.

    `settled` is False for a file so new that it may still be uploading; it is not offered. `stale` is True for a file that an
    earlier listing contains and the last one does not: it may exist, and cannot be read now. `left_out` are the disks of its VM
    that are known to be left out of a Delta's backup, as a VMX writes them.
    """

    ref: ArchiveRef
    folder: Folder
    name: ArchiveName
    stat: FileStat
    time: dt.datetime
    settled: bool = True
    stale: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def disk_key(self) -> DiskKey:
        """Whose disk it is, as its name and that of its folder say."""
        return DiskKey.of(vm=self.folder.vm, uuid=self.folder.uuid, scsi=self.name.scsi, disk=self.name.disk)


def entries(target: Target, gaps: list[Gap] | None = None) -> Iterator[CatalogEntry]:
    """Yields every archive on one target, by a new listing; `gaps` as in `Target.listing`."""
    zone = ZoneInfo(target.spec.timezone)
    for listed in target.listing(gaps):
        ref = ArchiveRef(target=target.spec.name, path=listed.path)
        found = entry_of(ref, listed.stat, zone)
        if found is not None:
            yield found


def entry_of(ref: ArchiveRef, stat: FileStat, zone: ZoneInfo, *, settled: bool = True, stale: bool = False) -> CatalogEntry | None:
    """Returns the entry of one file, None if its name is not an archive's or it lies in no folder."""
    name = naming.parse_archive(ref.name)
    if name is None or not ref.folder:
        return None
    folder = naming.parse_folder(ref.folder)
    return CatalogEntry(ref=ref, folder=folder, name=name, stat=stat, time=name.time_in(zone), settled=settled, stale=stale)


def newest_full_with_map(found: Iterable[CatalogEntry], disk: DiskKey) -> tuple[CatalogEntry, CatalogEntry] | None:
    """Returns the newest Full of a disk that has its empty Delta on the same target, and that Delta.

    The two lie in one folder unless a person moved one of them.
    """
    mine = [entry for entry in found if entry.disk_key == disk]
    maps = {entry.name.stamp: entry for entry in mine if entry.name.empty_delta}
    beside = {(entry.name.stamp, entry.ref.folder): entry for entry in mine if entry.name.empty_delta}
    fulls = [entry for entry in mine if entry.name.type is ArchiveType.FULL and entry.name.stamp in maps]
    if not fulls:
        return None
    newest = max(fulls, key=lambda entry: (entry.time, (entry.name.stamp, entry.ref.folder) in beside))
    return newest, beside.get((newest.name.stamp, newest.ref.folder), maps[newest.name.stamp])
