"""A drill, as a person asks for it: of a VM, of one Delta, or of a VM by chance; and the drills that were."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.drill.choice import Machine, choose, weights
from phd_daemon.drill.kept_drills import DrillFolder
from phd_daemon.drill.one_drill import DrillPlan, DrillWanted, run_drill
from phd_daemon.drill.verdict import Drill, DrillOutcome, DrillStep
from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.encodings import read_text
from restore_core.disk.vmx import vmx_values
from restore_core.errors import ArchiveAbsent, BadData, ExitCode
from restore_core.naming import ArchiveType, comparable
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, Stop

if TYPE_CHECKING:
    from phd_daemon.config.model import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOf:
    """Which backup to drill: one Delta, or the newest of a VM up to a time (aware; None: of all); of neither: a VM by chance."""

    delta: ArchiveRef | None = None
    vm: str | None = None
    uuid: str | None = None
    at: dt.datetime | None = None


def drill(
    settings: Config,
    targets: TargetSet,
    what: DrillOf,
    wanted: DrillWanted,
    *,
    chosen: Callable[[DrillPlan], None],
    tell: Callable[[DrillStep], None],
    stop: Stop,
) -> Drill:
    """Runs a drill, keeps what it found, and returns that. `chosen` gets what is drilled, before it begins.

    Raises `TryAgainLater` if another one runs, `UsageError`, `ArchiveAbsent`, the errors of the targets, `OSError` if it cannot be
    kept, and what `stop` raises.
    """
    folder = DrillFolder(settings.state_dir)
    with folder.work() as work:
        plan = plan_of(settings, targets, what, folder.kept())
        chosen(plan)
        done = run_drill(plan, wanted, config=_absolute(settings.source), folder=work, tell=tell, stop=stop)
        return folder.keep(done.drill, picture=done.picture, serial=done.serial)


def drills(settings: Config) -> list[Drill]:
    """Returns the drills that are kept, the oldest first. Raises `OSError`."""
    return DrillFolder(settings.state_dir).kept()


def drill_folder(settings: Config) -> Path:
    """Returns the folder that holds them, with their pictures."""
    return DrillFolder(settings.state_dir).path


def drill_exit_code(done: Drill) -> ExitCode:
    """Returns the exit code for monitoring."""
    codes = {DrillOutcome.PASSED: ExitCode.DONE, DrillOutcome.FAILED: ExitCode.BAD_DATA}
    return codes.get(done.verdict, ExitCode.FINDINGS)


def plan_of(settings: Config, targets: TargetSet, what: DrillOf, earlier: list[Drill]) -> DrillPlan:
    """Returns what to drill. Raises `UsageError`, `ArchiveAbsent`, and the errors of the targets."""
    from phd_daemon.operations.backups import deltas_of_vm

    if what.delta is not None:
        return _of_delta(what.delta, targets)
    name, uuid = (what.vm, what.uuid) if what.vm is not None else _by_chance(settings, earlier)
    found = deltas_of_vm(settings, targets, vm=name, uuid=uuid, at=what.at)
    first = found.entries[0]
    return DrillPlan(
        vm=first.folder.vm,
        uuid=first.folder.uuid or "",
        backup=first.time,
        disks=tuple((entry.ref, entry.name.scsi) for entry in found.entries),
        vmx=_vmx(first.ref, targets),
        missing=tuple(found.not_in_it),
    )


def _by_chance(settings: Config, earlier: list[Drill]) -> tuple[str, str | None]:
    """Returns name and UUID of a VM out of the catalog, most likely one that was drilled long ago, or never."""
    from phd_daemon.operations.backups import search

    found = search(settings, kind=ArchiveType.DELTA)
    names: dict[Machine, tuple[str, str | None]] = {}
    for entry in found.entries:
        names[entry.disk_key.vm, entry.disk_key.uuid] = entry.folder.vm, entry.disk_key.uuid
    if not names:
        raise ArchiveAbsent(
            "no Delta of any VM is on the targets: nothing can be drilled", remedy="'phd backups' lists what there is."
        )
    last: dict[Machine, dt.datetime] = {}
    for one in earlier:
        last[comparable(one.vm), one.uuid.lower()] = one.began
    return names[choose(weights(names, last, dt.datetime.now(dt.UTC)), random.SystemRandom())]


def _of_delta(ref: ArchiveRef, targets: TargetSet) -> DrillPlan:
    with targets.open(ref) as source:
        header = DeltaReader(source).header
    return DrillPlan(
        vm=header.vm,
        uuid=header.uuid or "",
        backup=dt.datetime.fromtimestamp(header.time, dt.UTC),
        disks=((ref, header.scsi),),
        vmx=_vmx(ref, targets),
    )


def _vmx(ref: ArchiveRef, targets: TargetSet) -> dict[str, str]:
    """Returns the values of the VMX in a Delta; none where there is none, or it is no VMX."""
    try:
        with targets.open(ref) as source:
            data = DeltaReader(source).text("vmx")
        return read_text(data, str(ref), lambda text: vmx_values(text, str(ref))) if data else {}
    except BadData:
        return {}


def _absolute(source: Path | None) -> Path | None:
    return source.absolute() if source is not None else None
