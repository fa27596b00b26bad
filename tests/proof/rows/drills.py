"""Drills: the verdict is what happened, whatever lies in the backup."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from phd_daemon.drill.boot import BootWanted
from phd_daemon.drill.hardware import DiskBus
from phd_daemon.drill.one_drill import DrillWanted
from phd_daemon.drill.tiny_guest import boot_sector
from phd_daemon.drill.verdict import DrillOutcome
from restore_core.targets.base import ArchiveRef
from tests.phd_daemon.drill.workshop import LOGIN, DrillLab, bootable, ext4
from tests.proof.debian_guest import debian_disk
from tests.proof.scoreboard import Figure, NotRun, Round, Row

PASSED, FAILED, NOT_PROVEN, _ = DrillOutcome
BUSES = (DiskBus.IDE, DiskBus.SATA, DiskBus.VIRTIO, DiskBus.PVSCSI, DiskBus.LSISAS, DiskBus.LSILOGIC, DiskBus.NVME)


def need_qemu() -> None:
    for name in ("qemu-system-x86_64", "qemu-img", "qemu-storage-daemon"):
        if shutil.which(name) is None:
            raise NotRun(f"{name} is not installed")
    if not Path("/dev/fuse").exists():
        raise NotRun("/dev/fuse is not here")


def good(lab: DrillLab, _dice: random.Random) -> tuple[ArchiveRef, DrillOutcome]:
    return lab.backup(bootable(boot_sector(LOGIN), (0x83, ext4(lab.folder))), full=True).delta, PASSED


def silent(lab: DrillLab, dice: random.Random) -> tuple[ArchiveRef, DrillOutcome]:
    text = dice.choice([b"nothing", b"\r\nlogin:x", b"login is not ready", b"the last login: root", b"\xff" * 100])
    return lab.backup(bootable(boot_sector(text), (0x83, ext4(lab.folder))), full=True).delta, NOT_PROVEN


def empty(lab: DrillLab, dice: random.Random) -> tuple[ArchiveRef, DrillOutcome]:
    return lab.backup(bytes(1 << 20) + dice.randbytes(5000), full=True).delta, FAILED


def panics(lab: DrillLab, _dice: random.Random) -> tuple[ArchiveRef, DrillOutcome]:
    text = b"[ 1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"
    return lab.backup(bootable(boot_sector(text)), full=True).delta, FAILED


def broken(lab: DrillLab, dice: random.Random) -> tuple[ArchiveRef, DrillOutcome]:
    system = bytearray(ext4(lab.folder))
    inodes = int.from_bytes(system[2048 + 8 : 2048 + 12], "little") * 1024
    system[inodes + 256 : inodes + 512] = dice.randbytes(256)  # the root folder
    return lab.backup(bootable(boot_sector(LOGIN), (0x83, bytes(system))), full=True).delta, FAILED


def flipped(lab: DrillLab, dice: random.Random) -> tuple[ArchiveRef, DrillOutcome]:
    """A bit of the frame with the boot sector or the file system is another one: found, or healed by no one, never passed over."""
    made = lab.backup(bootable(boot_sector(LOGIN), (0x83, ext4(lab.folder))), full=True)
    if made.full is None:
        raise RuntimeError("no Full was made")
    path = lab.path(made.full)
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data) // 4, len(data) // 2)] ^= 1 << dice.randrange(8)
    path.write_bytes(bytes(data))
    return made.delta, FAILED


KINDS: tuple[Callable[[DrillLab, random.Random], tuple[ArchiveRef, DrillOutcome]], ...]
KINDS = (good, silent, empty, panics, broken, flipped)


def verdicts(asked: Round) -> Figure:
    need_qemu()
    dice, count = asked.dice(), asked.times(60)
    held, first = 0, ""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        folder = asked.folder / str(number)
        folder.mkdir()
        lab = DrillLab(folder)
        delta, expected = kind(lab, dice)
        booting = BootWanted(seconds=4 if kind is silent else 120, memory=32)
        done = lab.drill(delta, DrillWanted(boot=booting, bus=dice.choice(BUSES)))
        lab.targets.close()
        clean = not (lab.settings.state_dir / "drills" / "work").exists()
        held += done.verdict is expected and clean
        if not first and (done.verdict is not expected or not clean):
            first = f"{kind.__name__}: {done.verdict.value}, expected {expected.value}: {done.reason}"
        shutil.rmtree(folder)
    return Figure(held=held, of=count, note=first or f"{len(KINDS)} kinds of backups")


def debian(asked: Round) -> Figure:
    """A real system, by UEFI, from the controllers that VMware has; and the same that waits for a text that never comes."""
    need_qemu()
    lab = DrillLab(asked.folder)
    shutil.copyfile(debian_disk(), asked.folder / "CRM-flat.vmdk")
    delta = lab.back_up_vm('firmware = "efi"\nscsi0.virtualDev = "pvscsi"\n')
    found: list[str] = []
    cases = [(None, PASSED), (DiskBus.NVME, PASSED)]
    cases = cases[: asked.times(len(cases))]
    for bus, expected in cases:
        done = lab.drill(delta, DrillWanted(boot=BootWanted(seconds=600, memory=512), bus=bus))
        good_parts = [step.outcome for step in done.steps if step.name.endswith(("p1", "p2"))] == [PASSED, PASSED]
        if done.verdict is not expected or not good_parts:
            found.append(f"{bus}: {done.verdict.value}: {done.reason}")
    return Figure(held=len(cases) - len(found), of=len(cases), note="; ".join(found) or "ext4 and FAT clean, login prompt by UEFI")


ROWS = (
    Row(
        id="R37",
        what="drills of backups that boot, say nothing, have nothing to boot, panic, have a broken file system or a flipped bit",
        target="0 false verdicts, nothing left behind",
        run=verdicts,
        mutants=("drills:a_silent_guest_has_passed", "drills:bad_blocks_do_not_count", "drills:checkers_are_always_content"),
        mutant_share=0.1,
    ),
    Row(
        id="R38",
        what="drills of a Debian 12 by UEFI, as its VMX says (pvscsi: on SATA), and from NVMe",
        target="each partition clean, login prompt seen",
        run=debian,
        mutants=("drills:the_guest_has_no_disk",),
        mutant_share=0.1,
    ),
)
