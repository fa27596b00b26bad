"""Boots the served disks of a VM as one guest, each on a throw-away overlay, and says what came of it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.drill import qemu
from phd_daemon.drill.disk_server import ServedDrillDisk
from phd_daemon.drill.hardware import DrillHardware
from phd_daemon.drill.partition_file import make_overlay, nbd_node
from phd_daemon.drill.programs import find_program
from phd_daemon.drill.verdict import DrillOutcome, DrillStep
from phd_daemon.drill.watch import LOGIN_PROMPT, SeenGuest, watch
from phd_daemon.host.qmp import QmpError
from restore_core.errors import TryAgainLater, size_text
from restore_core.targets.base import Stop

_LEAVE_FREE = 512 << 20
"""Bytes that the file system of the overlays keeps, whatever the guest does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootWanted:
    """How to boot. `seconds` is the time to come up, `memory` is in MiB, `scratch` the most bytes that the guest may write.

    `text` proves on the serial line that it is up.
    """

    seconds: float = 600.0
    memory: int = 1024
    scratch: int = 4 << 30
    text: re.Pattern[bytes] = re.compile(LOGIN_PROMPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """What came of it. `picture` is the last one of the screen, if there is one."""

    step: DrillStep
    accelerator: str = ""
    picture: Path | None = None
    serial: bytes = b""


def boot(disks: Sequence[ServedDrillDisk], hardware: DrillHardware, wanted: BootWanted, *, folder: Path, stop: Stop) -> Booted:
    """Boots the disks in their order. Raises only what `stop` raises."""
    began = time.monotonic()

    def booted(outcome: DrillOutcome, reason: str, **seen: object) -> Booted:
        remarks = "".join(f"; {remark}" for remark in hardware.remarks)
        step = DrillStep(name="boot", outcome=outcome, reason=reason + remarks, seconds=time.monotonic() - began)
        return Booted(step=step, **seen)  # type: ignore[arg-type]  # the fields of Booted, by name

    if find_program(qemu.PROGRAM) is None:
        return booted(DrillOutcome.SKIPPED, f"not done: {qemu.PROGRAM} is not installed (Debian package qemu-system-x86)")
    if hardware.uefi and qemu.firmware_files() is None:
        return booted(DrillOutcome.SKIPPED, "not done: the VMX asks for UEFI, which QEMU has not here (Debian package ovmf)")
    folder.mkdir(mode=0o700)
    accelerator = "tcg"
    try:
        if qemu.works("kvm", folder=folder / "probe", stop=stop):
            accelerator = "kvm"
        try:
            seen = _watched(disks, hardware, wanted, accelerator=accelerator, folder=folder, stop=stop)
        except QmpError:
            if accelerator == "tcg":
                raise
            accelerator = "tcg"  # KVM boots a tiny guest, and breaks with this one
            seen = _watched(disks, hardware, wanted, accelerator=accelerator, folder=folder, stop=stop)
    except TryAgainLater as error:
        return booted(DrillOutcome.NOT_PROVEN, error.message)
    picture = folder / "screen.png"
    return booted(
        seen.outcome,
        f"{seen.reason} ({accelerator})",
        accelerator=accelerator,
        picture=picture if picture.exists() else None,
        serial=seen.serial,
    )


def _watched(
    disks: Sequence[ServedDrillDisk], hardware: DrillHardware, wanted: BootWanted, *, accelerator: str, folder: Path, stop: Stop
) -> SeenGuest:
    """Boots on new overlays, and watches."""
    options = _options(disks, hardware, wanted, accelerator=accelerator, folder=folder, stop=stop)
    with qemu.running_guest(options, folder=folder, file_size=wanted.scratch + (1 << 20)) as guest:
        return watch(
            guest,
            text=wanted.text,
            seconds=wanted.seconds,
            folder=folder,
            written=lambda: _written_too_much(folder, wanted.scratch),
            stop=stop,
        )


def _options(
    disks: Sequence[ServedDrillDisk], hardware: DrillHardware, wanted: BootWanted, *, accelerator: str, folder: Path, stop: Stop
) -> list[str]:
    """Makes the overlays, and returns the options of QEMU."""
    nodes: list[dict[str, object]] = []
    for number, disk in enumerate(disks):
        overlay = folder / f"overlay{number}.qcow2"
        make_overlay(overlay, disk.size, log=folder / "overlay.log", stop=stop)
        nodes.append(nbd_node(disk.socket, f"base{number}"))
        file = {"driver": "file", "filename": str(overlay)}
        nodes.append({"driver": "qcow2", "node-name": f"disk{number}", "file": file, "backing": f"base{number}"})
    names = [f"disk{number}" for number in range(len(disks))]
    machine = qemu.machine_options(hardware, names, memory=wanted.memory, accelerator=accelerator, folder=folder)
    return [*qemu.block_options(nodes), *machine]


def _written_too_much(folder: Path, scratch: int) -> str:
    """Returns why the guest may write no more, into its overlays or by way of QEMU's log; '' if it may."""
    written = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        written = sum(entry.stat().st_blocks * 512 for entry in entries)
    if written > scratch:
        return f"it has written more than {size_text(scratch)} (--scratch) before it was up"
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < _LEAVE_FREE:
        return f"it was stopped: the file system of state_dir has less than {size_text(_LEAVE_FREE)} left"
    return ""
