"""A small workshop for tests: one local target, disks of any bytes, backups of them, restores of those."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from restore_core.archive.delta_reader import DeltaReader
from restore_core.backup.run import BackupOptions, BackupReporter, BackupResult, backup
from restore_core.backup.subject import Asked
from restore_core.disk.confinement import MADE
from restore_core.restore.request import OPTION_PARSERS, PlanSummary, Progress, RestoreOptions, RestoreOutcome, RestoreRequest
from restore_core.restore.run import restore_delta
from restore_core.restore.verify import VerifyReport, verify_archive
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, TargetSpec

BLOCK = 256 << 10
FRAME = 1 << 20
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
NIGHT = dt.datetime(2026, 3, 1, 3, 0, tzinfo=dt.UTC)


class Witness:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.plan: PlanSummary | None = None
        self.last: Progress | None = None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def planned(self, plan: PlanSummary) -> None:
        self.plan = plan

    def progress(self, progress: Progress) -> None:
        self.last = progress


def go_on() -> None:
    """A stop sign that never stops."""


def request_for(**asked: object) -> RestoreRequest:
    """A request whose options are given beside its other fields."""
    options = {key: asked.pop(key) for key in OPTION_PARSERS if key in asked}
    return RestoreRequest(options=RestoreOptions(**options), **asked)  # type: ignore[arg-type]  # tests pass fields by name


class Lab:
    """Everything lies below one folder: `disk` is backed up to `target/`, restores go to `out/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "target"
        self.store.mkdir(parents=True, exist_ok=True)
        self.disk = folder / "disk.img"
        self.targets = TargetSet((TargetSpec(name="t", url=f"file://{self.store}"),))
        self.witness = Witness()
        self.minutes = 0

    def backup(self, data: bytes, *, full: bool = False, options: BackupOptions | None = None) -> BackupResult:
        """Write `data` as the disk and back it up: a Full the first time or when asked, a Delta else."""
        self.disk.write_bytes(data)
        self.minutes += 1
        chosen = options or BackupOptions(
            asked=Asked(vm="CRM", uuid=UUID), full=full, at=NIGHT + dt.timedelta(minutes=self.minutes), scratch=self.folder
        )
        (result,) = backup(self.disk, self.targets["t"], chosen, BackupReporter())
        return result

    def path(self, ref: ArchiveRef) -> Path:
        """Where an archive of the target lies."""
        return self.store / ref.path

    def restore(self, ref: ArchiveRef, name: str = "back.img", **asked: object) -> RestoreOutcome:
        """Restore to `out/NAME`."""
        request = request_for(delta=ref, destination=self.folder / "out" / name, **asked)
        return restore_delta(request, self.targets, reporter=self.witness, stop=go_on)

    def restored(self, ref: ArchiveRef, name: str = "back.img") -> bytes:
        """Restore, and give the bytes back."""
        self.restore(ref, name, overwrite=True)
        return (self.folder / "out" / name).read_bytes()

    def leftovers(self) -> list[str]:
        """Names in the folder of the destination, without the mark of a folder that a restore made."""
        return sorted({path.name for path in (self.folder / "out").glob("*")} - {MADE})

    def verify(self, ref: ArchiveRef) -> VerifyReport:
        """Verify an archive."""
        return verify_archive(ref, self.targets, reporter=self.witness, stop=go_on)

    def reader(self, ref: ArchiveRef) -> DeltaReader:
        """An opened Delta."""
        return DeltaReader(self.targets.open(ref))
