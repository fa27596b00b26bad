"""Runs one drill: serves the disks, checks them, boots them, and returns what was found.

    serve each disk > verify the archives (if asked) > check the partitions > boot (if asked) > what of all that was read was bad

A backup that is wrong is a finding of the drill, a target that does not answer is its error.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phd_daemon.drill.boot import Booted, BootWanted, boot
from phd_daemon.drill.disk_check import check_disk
from phd_daemon.drill.disk_server import ServedDrillDisk, served
from phd_daemon.drill.hardware import DiskBus, hardware_of
from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.programs import ran
from phd_daemon.drill.verdict import Drill, DrillOutcome, DrillStep
from restore_core.errors import BadData, ExitCode, UsageError
from restore_core.naming import printable
from restore_core.targets.base import ArchiveRef, Stop

_VERIFY_SECONDS = 7 * 86400.0
_CHECK_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    """What is drilled: the Deltas of one backup of a VM with the SCSI id of each, in the order in which it boots from them.

    `vmx` has the keys of its VMX in lower case, empty if there is none. `missing` says which disks the backup does not hold.
    """

    vm: str
    uuid: str
    backup: dt.datetime
    disks: tuple[tuple[ArchiveRef, str], ...]
    vmx: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillWanted:
    """What a person asks for. `full`: every byte of the archives is verified, not only what is read. `bus` overrules the VMX."""

    boot: BootWanted | None = field(default_factory=BootWanted)
    full: bool = False
    bus: DiskBus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillDone:
    """A drill with what is to be kept beside it; `picture` lies in the work folder."""

    drill: Drill
    picture: Path | None = None
    serial: bytes = b""


def run_drill(
    plan: DrillPlan,
    wanted: DrillWanted,
    *,
    config: Path | None,
    folder: Path,
    tell: Callable[[DrillStep], None],
    stop: Stop,
) -> DrillDone:
    """Runs the drill in an empty `folder`; `tell` gets each step as it ends.

    Raises `TargetUnavailable`, `TryAgainLater`, and what `stop` raises.
    """
    steps: list[DrillStep] = []

    def add(step: DrillStep) -> None:
        steps.append(step)
        tell(step)

    began, clock = dt.datetime.now(dt.UTC), time.monotonic()
    booted: Booted | None = None
    for text in plan.missing:
        add(DrillStep(name="disks", outcome=DrillOutcome.SKIPPED, reason=printable(text)))
    with contextlib.ExitStack() as held:
        disks = _serve_all(plan, held, add, config=config, folder=folder, stop=stop)
        if wanted.full:
            for disk in disks:
                add(_verified(disk, config, folder, stop))
        for number, disk in enumerate(disks):
            work = folder / f"check{number}"
            work.mkdir(mode=0o700)
            for step in check_disk(disk, folder=work, stop=stop, seconds=_CHECK_SECONDS):
                add(step)
        whole = len(disks) == len(plan.disks)
        if wanted.boot is not None and whole:
            hardware = hardware_of(plan.vmx, [scsi for _, scsi in plan.disks], bus=wanted.bus)
            booted = boot(disks, hardware, wanted.boot, folder=folder / "boot", stop=stop)
        if disks:
            add(_read(disks))
        if booted is not None:
            add(booted.step)
    return _done(plan, tuple(steps), booted, began=began, seconds=time.monotonic() - clock, wanted=wanted.boot is not None)


def _done(
    plan: DrillPlan, steps: tuple[DrillStep, ...], booted: Booted | None, *, began: dt.datetime, seconds: float, wanted: bool
) -> DrillDone:
    drill = Drill(
        began=began,
        seconds=seconds,
        vm=plan.vm,
        uuid=plan.uuid,
        backup=plan.backup,
        archives=tuple(str(delta) for delta, _ in plan.disks),
        boot=wanted,
        steps=steps,
        accelerator=booted.accelerator if booted else "",
    )
    return DrillDone(drill=drill, picture=booted.picture if booted else None, serial=booted.serial if booted else b"")


def _serve_all(
    plan: DrillPlan, held: contextlib.ExitStack, add: Callable[[DrillStep], None], *, config: Path | None, folder: Path, stop: Stop
) -> list[ServedDrillDisk]:
    """Returns the disks that can be served; what is wrong with the others becomes a step."""
    disks: list[ServedDrillDisk] = []
    for number, (delta, _) in enumerate(plan.disks):
        began = time.monotonic()
        try:
            disks.append(held.enter_context(served(delta, number, config=config, folder=folder, stop=stop)))
        except (BadData, UsageError) as error:
            outcome = DrillOutcome.FAILED if isinstance(error, BadData) else DrillOutcome.NOT_PROVEN
            name = f"serve {printable(delta.name)}"
            add(DrillStep(name=name, outcome=outcome, reason=error.message, seconds=time.monotonic() - began))
    return disks


def _verified(disk: ServedDrillDisk, config: Path | None, folder: Path, stop: Stop) -> DrillStep:
    """Runs `phd verify` for a disk: every byte of its archives."""
    began, name = time.monotonic(), f"verify {printable(disk.name)}"
    command = [sys.executable, "-P", "-m", "phd_daemon.cli.main", "verify", "--quiet", str(disk.delta)]
    command += ["--config", str(config)] if config is not None else []
    limits = ProgramLimits(confined=False)
    code, said = ran(command, log=folder / "verify.log", limits=limits, stop=stop, seconds=_VERIFY_SECONDS)
    outcome, reason = DrillOutcome.NOT_PROVEN, f"phd verify could not end its work: {said}"
    if code == ExitCode.DONE:
        outcome, reason = DrillOutcome.PASSED, "every byte of its archives is right"
    elif code == ExitCode.BAD_DATA:
        outcome, reason = DrillOutcome.FAILED, said.replace("\n", "; ")
    return DrillStep(name=name, outcome=outcome, reason=reason, seconds=time.monotonic() - began)


def _read(disks: Sequence[ServedDrillDisk]) -> DrillStep:
    """Returns what was wrong with all that was read: the servers verify every block before it is used."""
    bad = [f"{printable(disk.name)}: {line}" for disk in disks for line in disk.bad_blocks()]
    healed = sum(disk.healed_blocks() for disk in disks)
    other = [line for disk in disks for line in disk.other_troubles()]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return DrillStep(name="read", outcome=DrillOutcome.FAILED, reason=f"{bad[0]}{more}")
    if other:
        return DrillStep(name="read", outcome=DrillOutcome.NOT_PROVEN, reason=other[-1])
    also = f"; {healed} were bad in one copy of the Full, and taken from another" if healed else ""
    return DrillStep(name="read", outcome=DrillOutcome.PASSED, reason=f"every block that was read was verified{also}")
