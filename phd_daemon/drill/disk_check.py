"""Checks the file system of each partition of a served disk. What this machine has no checker for is said, and skipped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.drill.checkers import CHECKERS, Checker, Judged, judge
from phd_daemon.drill.disk_reader import DiskReader
from phd_daemon.drill.disk_server import ServedDrillDisk
from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.partition_file import NoPartitionFile, PartitionFile, partition_file
from phd_daemon.drill.programs import find_program, ran
from phd_daemon.drill.verdict import DrillOutcome, DrillStep
from restore_core.errors import BadData, TryAgainLater
from restore_core.naming import printable
from restore_core.serve.partitions import Partition, read_partitions
from restore_core.targets.base import Stop

_MEMORY = 2 << 30
_MOST_PARTITIONS = 64


def check_disk(disk: ServedDrillDisk, *, folder: Path, stop: Stop, seconds: float) -> Iterator[DrillStep]:
    """Yields a step for the table of the disk, and one for each partition. `seconds` is the time for each check."""
    name, began = printable(disk.name), time.monotonic()
    try:
        with DiskReader(disk.socket) as reader:
            table = read_partitions(reader)
    except (BadData, TryAgainLater) as error:
        not_read = DrillOutcome.NOT_PROVEN  # if it is damaged, the step `read` says so
        yield DrillStep(name=f"{name} partitions", outcome=not_read, reason=error.message, seconds=time.monotonic() - began)
        return
    for mark in table.marks:
        yield DrillStep(name=f"{name} partitions", outcome=DrillOutcome.SKIPPED, reason=printable(mark))
    for number, part in enumerate(table.partitions[:_MOST_PARTITIONS]):
        began = time.monotonic()
        outcome, reason = _checked(disk, part, folder=folder / f"part{number}", stop=stop, seconds=seconds)
        yield DrillStep(name=f"{name} {part.name}", outcome=outcome, reason=reason, seconds=time.monotonic() - began)


def _checked(disk: ServedDrillDisk, part: Partition, *, folder: Path, stop: Stop, seconds: float) -> Judged:
    checker = CHECKERS.get(part.file_system)
    if checker is None:
        return DrillOutcome.SKIPPED, f"{part.file_system or 'no file system that is known'} ({printable(part.type)}): not checked"
    tool = find_program(checker.commands[0][0])
    if tool is None:
        return (
            DrillOutcome.SKIPPED,
            f"{part.file_system}: not checked, {checker.commands[0][0]} is missing (package {checker.package})",
        )
    try:
        with partition_file(disk.socket, disk.size, part.start, part.length, folder=folder, stop=stop) as file:
            outcome, reason = _run(checker, tool, file, stop=stop, seconds=seconds)
    except NoPartitionFile as error:
        return DrillOutcome.SKIPPED, f"{part.file_system}: not checked: {error.message}"
    except TryAgainLater as error:
        return DrillOutcome.NOT_PROVEN, f"{part.file_system}: {error.message}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome, f"{part.file_system}: {reason}"


def _run(checker: Checker, tool: str, file: PartitionFile, *, stop: Stop, seconds: float) -> Judged:
    """Runs the programs of a checker until one of them is not content."""
    limits = ProgramLimits(cpu=int(seconds) + 1, memory=_MEMORY, writable=(str(file.folder),), mounts_of=file.pid)
    best: Judged | None = None
    for number, (_, *options) in enumerate(checker.commands):
        log = file.folder / f"check{number}.log"
        code, said = ran([tool, *options, str(file.path)], log=log, limits=limits, stop=stop, seconds=seconds)
        found = judge(checker, code, said, seconds=seconds)
        if found[0] is not DrillOutcome.PASSED:
            return found
        best = best or found
    return best or (DrillOutcome.NOT_PROVEN, "nothing was run")
