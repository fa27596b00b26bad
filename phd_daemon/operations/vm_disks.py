"""Which disks a VM had when a backup of it was made: by the VMX and the header in one of its Deltas.

Without this, a disk that was removed from its VM, or is left out of every backup, would be missing in all runs to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from restore_core.archive.delta_reader import DeltaReader
from restore_core.catalog import CatalogEntry
from restore_core.disk.encodings import read_text
from restore_core.disk.vmx import parse_vmx
from restore_core.errors import ArchiveAbsent, BadData
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef

_MOST = 100
"""The most Deltas that are read for one question: the runs that could be taken are the newest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDisks:
    """The disks of a VM at one backup. `backed_up` are the SCSI ids that the backup was made of, `left_out` those that it was not.

    Ids in `left_out` are as a VMX writes them.
    """

    backed_up: frozenset[str]
    left_out: tuple[str, ...]


DisksAt: TypeAlias = Callable[[CatalogEntry], VmDisks | None]
"""Returns the disks of the VM of a Delta at its time; None if it does not say them."""


def not_known(entry: CatalogEntry) -> VmDisks | None:
    """Returns that nothing is known."""
    del entry
    return None


def disks_at(targets: TargetSet) -> DisksAt:
    """Returns a lookup that reads each Delta once. It raises the errors of a target that does not answer."""
    known: dict[ArchiveRef, VmDisks | None] = {}

    def look_up(entry: CatalogEntry) -> VmDisks | None:
        if entry.ref not in known and len(known) < _MOST:
            known[entry.ref] = _read(entry.ref, targets)
        return known.get(entry.ref)

    return look_up


def _read(ref: ArchiveRef, targets: TargetSet) -> VmDisks | None:
    try:
        with targets.open(ref) as source:
            delta = DeltaReader(source)
            data = delta.text("vmx")
        if data is None:
            return None
        found = read_text(data, str(ref), lambda text: parse_vmx(text, str(ref)))
    except (BadData, ArchiveAbsent):
        return None
    if found.encrypted or not found.disks:
        return None
    left_out = delta.header.left_out
    return VmDisks(backed_up=frozenset(disk.scsi for disk in found.disks) - scsi_ids(left_out), left_out=left_out)


def scsi_ids(disks: Iterable[str]) -> frozenset[str]:
    """Returns the SCSI ids, as names have them, of disks that are written as in a VMX."""
    return frozenset(disk.lower().removeprefix("scsi").replace(":", "") for disk in disks)
