"""VMs for drills: a disk whose boot sector prints on the serial line, with a file system behind it, and its backup."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config
from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.one_drill import DrillWanted
from phd_daemon.drill.programs import ran
from phd_daemon.drill.tiny_guest import boot_sector
from phd_daemon.drill.verdict import Drill, DrillStep
from phd_daemon.operations.drill import DrillOf, drill
from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from restore_core.targets.base import ArchiveRef
from tests.host import program
from tests.lab import NIGHT, Lab, go_on

LOGIN = b"\r\nDebian GNU/Linux 12 crm ttyS0\r\n\r\ncrm login: "
MIB = 1 << 20
FIRST = 2048 * 512


def need(*names: str) -> None:
    """Skip, loudly, where a program is missing."""
    for name in names:
        if shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin") is None:
            pytest.skip(f"{name} is not installed: what a drill does with it was not tried")


def need_fuse(folder: Path) -> None:
    """Skip, loudly, where a partition cannot be shown as a file."""
    limits = ProgramLimits(own_mounts=True, confined=False)
    command = [program("true")]
    if not Path("/dev/fuse").exists() or ran(command, log=folder / "log", limits=limits, stop=go_on, seconds=60)[0] != 0:
        pytest.skip("no /dev/fuse, or no user namespaces here: a drill does not check file systems")


def ext4(folder: Path, size: int = 4 * MIB) -> bytes:
    """A file system with a few files."""
    files = folder / "files"
    (files / "etc").mkdir(parents=True, exist_ok=True)
    (files / "etc" / "blob").write_bytes(random.Random(1).randbytes(700_000))
    image = folder / "ext4.img"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([program("mkfs.ext4"), "-q", "-F", "-d", str(files), str(image)], check=True)
    return image.read_bytes()


def bootable(sector: bytes, *partitions: tuple[int, bytes]) -> bytes:
    """A disk with this boot sector and these partitions (type, bytes) behind it."""
    head, body, at = bytearray(sector), b"", 2048
    for number, (kind, data) in enumerate(partitions):
        entry = struct.pack("<B3xB3xII", 0x80 if not number else 0, kind, at, len(data) // 512)
        head[446 + 16 * number : 462 + 16 * number] = entry
        body += data
        at += len(data) // 512
    return bytes(head).ljust(FIRST, b"\0") + body.ljust(MIB, b"\0")


class DrillLab(Lab):
    """A lab whose `state` and `phd.toml` a drill can use."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / "phd.toml"
        path.write_text(f'state_dir = "{folder / "state"}"\n[targets.t]\nurl = "file://{self.store}"\n')
        self.config = path
        self.settings: Config = load_config(path)
        self.steps: list[DrillStep] = []

    def drill(self, delta: ArchiveRef | None, wanted: DrillWanted) -> Drill:
        self.steps.clear()
        what = DrillOf(delta=delta) if delta is not None else DrillOf()
        return drill(self.settings, self.targets, what, wanted, chosen=lambda _: None, tell=self.steps.append, stop=go_on)

    def back_up_vm(self, vmx: str) -> ArchiveRef:
        """Back up CRM-flat.vmdk of the folder as the disk scsi0:0 of a VM with these lines in its VMX."""
        size = (self.folder / "CRM-flat.vmdk").stat().st_size
        (self.folder / "CRM.vmdk").write_text(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
            f'createType="vmfs"\nRW {size // 512} VMFS "CRM-flat.vmdk"\nddb.adapterType = "lsilogic"\n'
        )
        path = self.folder / "CRM.vmx"
        path.write_text(
            'uuid.bios = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"\nscsi0.present = "TRUE"\n'
            f'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "CRM.vmdk"\n{vmx}'
        )
        options = BackupOptions(asked=Asked(), full=True, at=NIGHT, scratch=self.folder)
        (result,) = backup(path, self.targets["t"], options, BackupReporter())
        return result.delta

    def step(self, name: str) -> DrillStep:
        return next(step for step in self.steps if step.name.endswith(name))


__all__ = ["LOGIN", "DrillLab", "boot_sector", "bootable", "ext4", "need", "need_fuse"]
