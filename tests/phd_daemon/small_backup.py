"""A small disk and its backup, for tests that need real archives."""

from __future__ import annotations

import datetime as dt
import os
import random
from dataclasses import dataclass
from pathlib import Path

from restore_core.archive.delta_writer import DiskFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import Effort
from restore_core.backup.full import write_full
from restore_core.naming import delta_name, folder_name, full_name
from restore_core.targets.base import ArchiveRef, TargetSpec
from restore_core.targets.kinds import make_target

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
STAMP = dt.datetime(2007, 9, 20, 16, 1, tzinfo=dt.UTC)
VMX = b'displayName = "CRM"\n'


@dataclass(frozen=True)
class SmallBackup:
    """What was backed up, and where its archives are."""

    content: bytes
    target: TargetSpec
    delta: ArchiveRef
    full: ArchiveRef
    delta_path: Path
    full_path: Path


def small_backup(folder: Path, *, name: str = "CRM.vmdk", size: int = 3 << 20, seed: int = 1) -> SmallBackup:
    """A Full with its empty Delta below `folder`, of a disk of which the last third is zero."""
    content = random.Random(seed).randbytes(size * 2 // 3)
    content += bytes(size - len(content))
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder.with_name(f"{folder.name}.disk")
    disk.write_bytes(content)
    spec = TargetSpec(name="nas1", url=f"file://{folder}")
    target = make_target(spec)
    within = folder_name(date=STAMP.date(), vm="CRM", uuid=UUID)
    full = ArchiveRef(target="nas1", path=f"{within}/{full_name(scsi='00', disk=name, stamp=STAMP)}")
    delta = full.beside(delta_name(scsi="00", disk=name, stamp=STAMP, base=STAMP))
    facts = DiskFacts(vm="CRM", uuid=UUID, scsi="00", disk=name, disk_size=size, vmx=VMX)
    full_out, delta_out = target.create(full.path), target.create(delta.path)
    fd = os.open(disk, os.O_RDONLY)
    try:
        write_full(
            fd=fd,
            disk=facts,
            name=full.name,
            full_out=full_out,
            delta_out=delta_out,
            time=int(STAMP.timestamp()),
            effort=Effort.FAST,
            block_digest=BlockDigest.BLAKE3,
            scratch=folder,
            tick=lambda _done: None,
        )
    finally:
        os.close(fd)
    full_out.publish()
    delta_out.publish()
    return SmallBackup(
        content=content, target=spec, delta=delta, full=full, delta_path=folder / delta.path, full_path=folder / full.path
    )
