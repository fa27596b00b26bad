"""The order of a backup: open and check the disks > choose names > read, hash, compress > check that nothing changed > publish."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from restore_core import catalog, naming
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.delta_writer import DiskFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import Effort
from restore_core.archive.header import DeltaHeader
from restore_core.backup.delta import write_delta
from restore_core.backup.full import write_full
from restore_core.backup.subject import Asked, Subject, open_subjects
from restore_core.errors import ArchiveAbsent, TryAgainLater, UsageError
from restore_core.targets.base import ArchiveRef, NewFile, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """How a backup is made. `at` is the stamp (aware; default now); `scratch` holds temporary lists while it runs."""

    asked: Asked = Asked()
    full: bool = False
    effort: Effort = Effort.NORMAL
    block_digest: BlockDigest = BlockDigest.BLAKE3
    at: dt.datetime | None = None
    scratch: Path = Path("/var/tmp")  # noqa: S108 - the shipped default of staging_dir; files there are unlinked at once


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """One disk, backed up. `full` is set when a Full was made; `delta` is its empty Delta then."""

    delta: ArchiveRef
    full: ArchiveRef | None
    header: DeltaHeader
    bytes_written: int


class BackupReporter:
    """Who is told while a backup runs; the base class tells nobody."""

    def note(self, text: str) -> None:
        """One line of what was decided."""

    def progress(self, disk: str, done: int, total: int) -> None:
        """Bytes of the disk that are done; may raise `Stopped`."""


def backup(path: Path, target: Target, options: BackupOptions, reporter: BackupReporter) -> list[BackupResult]:
    """Back up one disk, or all disks of a VMX, under one stamp. Raises typed errors; nothing half-made is ever visible."""
    with open_subjects(path, options.asked) as subjects:
        known = list(catalog.entries(target)) if not options.full else []
        time = options.at or dt.datetime.now(dt.UTC)
        plans = [_choose(subject, known, options, reporter) for subject in subjects]
        stamp = _free_stamp(target, subjects, plans, time)
        return [_backup_one(s, base, target, stamp, time, options, reporter) for s, base in zip(subjects, plans, strict=True)]


Base = tuple[catalog.CatalogEntry, catalog.CatalogEntry] | None


def _choose(subject: Subject, known: list[catalog.CatalogEntry], options: BackupOptions, reporter: BackupReporter) -> Base:
    """The newest Full to make a Delta against; None for a Full."""
    disk = subject.disk
    if options.full:
        return None
    base = catalog.newest_full_with_map(known, (disk.uuid, disk.scsi, disk.disk))
    if base is None:
        reporter.note(f"{naming.printable(disk.disk)}: no Full with its empty Delta on this target yet: making a Full")
    return base


def _free_stamp(target: Target, subjects: list[Subject], plans: list[Base], time: dt.datetime) -> dt.datetime:
    """The next minute under which none of the names is taken, as local time of the target."""
    zone = ZoneInfo(target.spec.timezone)
    stamp = time.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)
    for _ in range(24 * 60):
        paths = [path for subject, base in zip(subjects, plans, strict=True) for path in _paths(subject.disk, base, stamp)]
        if not any(_exists(target, path) for path in paths):
            return stamp
        stamp += dt.timedelta(minutes=1)
    raise UsageError("every name of the next 24 hours is taken on this target", remedy="Give another time with --at.")


def _paths(disk: DiskFacts, base: Base, stamp: dt.datetime) -> list[str]:
    """Paths of the new archives on the target: the Delta, or the empty Delta and its Full."""
    folder = naming.folder_name(date=stamp.date(), vm=disk.vm, uuid=disk.uuid)
    base_stamp = base[0].name.stamp if base else stamp
    delta = f"{folder}/{naming.delta_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp, base=base_stamp)}"
    return [delta] if base else [delta, f"{folder}/{naming.full_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp)}"]


def _exists(target: Target, path: str) -> bool:
    try:
        target.stat(path)
    except ArchiveAbsent:
        return False
    return True


def _backup_one(
    subject: Subject, base: Base, target: Target, stamp: dt.datetime, time: dt.datetime, options: BackupOptions, reporter: BackupReporter
) -> BackupResult:
    paths = _paths(subject.disk, base, stamp)
    delta_ref = ArchiveRef(target=target.spec.name, path=paths[0])

    def tick(done: int) -> None:
        reporter.progress(subject.disk.disk, done, subject.disk.disk_size)

    if base is None:
        full_ref = ArchiveRef(target=target.spec.name, path=paths[1])
        with _new(target, full_ref) as full_out, _new(target, delta_ref) as delta_out:
            facts, header = write_full(
                fd=subject.source.fd, disk=subject.disk, name=full_ref.name, full_out=full_out, delta_out=delta_out,
                time=int(time.timestamp()), effort=options.effort, block_digest=options.block_digest, scratch=options.scratch, tick=tick,
            )  # fmt: skip
            subject.source.unchanged()
            full_out.publish()
            delta_out.publish()
        return BackupResult(delta=delta_ref, full=full_ref, header=header, bytes_written=facts.size + header.file_size)
    with target.open(base[1].ref.path) as source, _new(target, delta_ref) as out:
        map_reader = DeltaReader(source)
        map_reader.check_metadata()
        reporter.note(f"{naming.printable(subject.disk.disk)}: Delta against {base[0].ref}")
        header = write_delta(
            fd=subject.source.fd, disk=subject.disk, base=map_reader, out=out, time=int(time.timestamp()), effort=options.effort,
            scratch=options.scratch, tick=tick,
        )  # fmt: skip
        subject.source.unchanged()
        out.publish()
    return BackupResult(delta=delta_ref, full=None, header=header, bytes_written=header.file_size)


@contextmanager
def _new(target: Target, ref: ArchiveRef) -> Iterator[NewFile]:
    """A new archive that is removed again unless it was published."""
    out = target.create(ref.path)
    try:
        yield out
    except FileExistsError as error:
        raise TryAgainLater(f"{ref}: another backup took this name meanwhile", remedy="Run the backup again.") from error
    finally:
        out.discard()
