"""Makes and proves archives: a backup of a disk or a VM, the empty Delta of a gzip, the proof of all bytes of an archive."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.host.catalog import catalog_of, written_to
from phd_daemon.operations.installation import known_target, prepare_process
from restore_core.archive.frames import Effort
from restore_core.backup.adopt import adopt_full
from restore_core.backup.run import BackupOptions, BackupReporter, BackupResult
from restore_core.backup.run import backup as back_up
from restore_core.backup.subject import Asked
from restore_core.restore.request import Phase, Progress, Reporter
from restore_core.restore.verify import VerifyReport, verify_archive
from restore_core.targets.base import LOCAL, ArchiveRef, Stop

if TYPE_CHECKING:
    import datetime as dt

    from phd_daemon.config.model import Config
    from restore_core.targets import TargetSet


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedBackup:
    """What a person asks of a backup. `at` is its stamp, None for now."""

    asked: Asked
    full: bool = False
    fast: bool = False
    at: dt.datetime | None = None


def make_backup(
    settings: Config, targets: TargetSet, disk: Path, wanted: WantedBackup, *, target: str, reporter: BackupReporter
) -> list[BackupResult]:
    """Backs up a disk, or all disks of a VMX, to the target of that name. Raises the typed errors of `restore_core.backup`."""
    to = targets[known_target(target, targets.specs)]
    options = BackupOptions(
        asked=wanted.asked,
        full=wanted.full,
        effort=Effort.FAST if wanted.fast else Effort.NORMAL,
        at=wanted.at,
        held=catalog_of(settings).held(targets.specs[target]),
        scratch=settings.backup.staging_dir,
    )
    prepare_process()
    made = back_up(disk, to, options, reporter)
    written_to(settings, target)
    return made


def make_empty_delta(
    settings: Config, targets: TargetSet, full: ArchiveRef, asked: Asked, *, report: Callable[[Progress], None], stop: Stop
) -> ArchiveRef:
    """Makes the empty Delta of a gzip that something else wrote, beside it. Returns it. Raises the typed errors of `adopt_full`."""
    prepare_process()
    started = time.monotonic()

    def tick(done: int) -> None:
        stop()
        report(Progress.of_stream(Phase.VERIFY, done=done, total=done, started=started))

    made = adopt_full(full, targets, asked, scratch=settings.backup.staging_dir, tick=tick)
    if made.target != LOCAL:
        written_to(settings, made.target)
    return made


def check_archive(
    targets: TargetSet, archive: ArchiveRef, *, full: ArchiveRef | None, reporter: Reporter, stop: Stop
) -> VerifyReport:
    """Checks every byte of an archive, and of the Full that it needs. Raises `BadArchive` and what a target raises."""
    prepare_process()
    return verify_archive(archive, targets, full=full, reporter=reporter, stop=stop)
