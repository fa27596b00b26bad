"""Makes a backup: opens and checks the disks, chooses names, reads and writes, checks that no disk changed meanwhile, publishes."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from restore_core import catalog, naming
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.delta_writer import DiskFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import Effort
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import DeltaHeader
from restore_core.backup import stamp as stamps
from restore_core.backup.delta import write_delta
from restore_core.backup.full import write_full
from restore_core.backup.subject import Asked, Subject, open_subjects
from restore_core.catalog.index import refuse_emptied
from restore_core.errors import BadArchive, ListingPartial, TargetUnavailable, TryAgainLater, UsageError
from restore_core.targets.base import ArchiveRef, ByteSource, NewFile, Target
from restore_core.targets.gaps import Gap, partial_text, shown
from restore_core.targets.kinds import kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """How a backup is made. `at` is the stamp (with time zone; None: now); `scratch` is the folder of temporary lists.

    `held` is how many archives the target held when it was last seen: a target that held some and holds none is refused.
    """

    asked: Asked = field(default_factory=Asked)
    full: bool = False
    effort: Effort = Effort.NORMAL
    block_digest: BlockDigest = BlockDigest.BLAKE3
    at: dt.datetime | None = None
    held: int = 0
    scratch: Path = Path("/var/tmp")  # noqa: S108 - the shipped default of staging_dir; files there are unlinked at once


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """The backup of one disk. `full` is set when a Full was made; `delta` is its empty Delta then."""

    delta: ArchiveRef
    full: ArchiveRef | None
    header: DeltaHeader
    bytes_written: int


class BackupReporter:
    """Is called while a backup runs. This base class does nothing."""

    def note(self, text: str) -> None:
        """Takes one line of what was decided."""

    def progress(self, disk: str, done: int, total: int) -> None:
        """Takes the number of bytes of the disk that are done; may raise `Stopped`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """The Full that a Delta is made against, and its empty Delta, which holds the map."""

    full: catalog.CatalogEntry
    empty_delta: catalog.CatalogEntry


def backup(path: Path, target: Target, options: BackupOptions, reporter: BackupReporter) -> list[BackupResult]:
    """Backs up one disk, or all disks of a VMX, under one stamp. Raises typed errors. An unfinished archive never has its name."""
    with open_subjects(path, options.asked) as subjects:
        for note in dict.fromkeys(note for subject in subjects for note in subject.notes):
            reporter.note(f"passed over: {note}")
        if left_out := subjects[0].disk.left_out:
            reporter.note(f"left out, and said so in the backup: {', '.join(left_out)}")
        known = _known(target, [subject.disk for subject in subjects], options, reporter)
        _tell_of_small_files(target, [subject.disk for subject in subjects], reporter)
        bases = [_newest_base(subject.disk, known, options, reporter) for subject in subjects]
        new = [_new_backup(subject, base) for subject, base in zip(subjects, bases, strict=True)]
        taken = stamps.taken_on(target, new, known)
        stamp, time = (stamps.given(taken, options.at), options.at) if options.at else stamps.present(taken, reporter.note)
        run = _Run(target=target, stamp=stamp, time=int(time.timestamp()), options=options, reporter=reporter)
        return [
            run.full(subject) if base is None else run.delta(subject, base) for subject, base in zip(subjects, bases, strict=True)
        ]


def _known(target: Target, disks: list[DiskFacts], options: BackupOptions, reporter: BackupReporter) -> list[catalog.CatalogEntry]:
    """Returns what the target holds; if a Full was asked for, as far as it can be listed.

    Raises `TargetEmptied` where it held archives and holds none, and `ListingPartial` where a part that cannot be seen may hold the
    Full of one of these disks: a Delta would be made against an older one, or a Full that is already there would be made again.
    """
    gaps: list[Gap] = []
    found = catalog.entries(target, gaps)
    known = list(_while_it_lasts(found) if options.full else found)
    hiding = [gap for gap in gaps if gap.counts() and any(gap.may_hide(disk.vm, disk.uuid) for disk in disks)]
    if not known and not any(gap.counts() for gap in gaps):
        refuse_emptied(target.spec, options.held)
    if options.full:
        return known
    if hiding:
        raise ListingPartial(
            partial_text(target.spec.name, hiding),
            remedy=f"{hiding[0].kind.mend} With --full a Full is made whatever lies there.",
        )
    if gaps:
        reporter.note(f"target {target.spec.name}: passed over, with no backup of this machine in it: {shown(gaps)}")
    return known


def _while_it_lasts(found: Iterator[catalog.CatalogEntry]) -> Iterator[catalog.CatalogEntry]:
    """Yields until the target stops answering: a Full is made whatever lies there. Raises where there is no answer at all."""
    yield from islice(found, 1)
    with suppress(TargetUnavailable):
        yield from found


def _new_backup(subject: Subject, base: _Base | None) -> stamps.NewBackup:
    return stamps.NewBackup(disk=subject.disk, base=base.full.name.stamp if base else None)


def _tell_of_small_files(target: Target, disks: list[DiskFacts], reporter: BackupReporter) -> None:
    """Says that an archive may become too large for the file system of the target (FAT); nobody knows how far it can be packed."""
    largest = target.capabilities().largest_file if kind_of(target.spec).port is None else None  # no server tells it
    if largest is not None and any(disk.disk_size > largest for disk in disks):
        reporter.note(f"target {target.spec.name}: a file there has at most {largest} bytes; an archive that grows larger fails")


def _newest_base(
    disk: DiskFacts, known: list[catalog.CatalogEntry], options: BackupOptions, reporter: BackupReporter
) -> _Base | None:
    """Returns what a Delta is made against; None if a Full has to be made. Raises `UsageError` for a time before every Full."""
    if options.full:
        return None
    mine = catalog.DiskKey.of(vm=disk.vm, uuid=disk.uuid, scsi=disk.scsi, disk=disk.disk)
    at = options.at
    found = catalog.newest_full_with_map((entry for entry in known if at is None or entry.time <= at), mine)
    if found is None and (later := catalog.newest_full_with_map(known, mine)) is not None:
        raise UsageError(
            f"{naming.printable(disk.disk)}: the time of --at is before that of its Full, {later[0].ref}: a Delta of then would "
            "need what was made after it",
            remedy="Make a Full of that time, too (--full), or give a time after that of the Full.",
        )
    if found is None:
        none = f"{naming.printable(disk.disk)}: no Full of it with its empty Delta on this target yet: making a Full"
        reporter.note(none + _namesakes(mine, known))
        return None
    return _Base(full=found[0], empty_delta=found[1])


def _namesakes(mine: catalog.DiskKey, known: list[catalog.CatalogEntry]) -> str:
    """Returns which other VMs have backups of a disk with the same UUID, SCSI id and name; empty if none has."""
    others = sorted({key.vm for key in (entry.disk_key for entry in known) if key.alike(mine) and key != mine})
    if not others:
        return ""
    names = ", ".join(naming.printable(vm) for vm in others)
    return (
        f". Its UUID, SCSI id and name are also those of a disk of the VM {names} on this target: a clone. If it is the same VM "
        f"under another name, --vm {shlex.quote(naming.printable(others[0]))} goes on with those backups"
    )


def _of_another_disk(before: str, now: str) -> str:
    """Returns that two disks share all their names, if the Full was made of another one that is still there; empty if not."""
    with contextlib.suppress(OSError, ValueError):
        if before and before != now and not os.path.samefile(before, now):
            return (
                f"two disks share VM name, UUID, SCSI id and disk name: that Full was made of {naming.printable(before)}, and this "
                f"is {naming.printable(now)}. If they are of two VMs, their backups are mixed: give one another name with --vm"
            )
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One backup run. All its disks share stamp and time."""

    target: Target
    stamp: dt.datetime
    time: int
    options: BackupOptions
    reporter: BackupReporter

    def full(self, subject: Subject) -> BackupResult:
        delta_ref, full_ref = (self._ref(path) for path in _new_backup(subject, None).paths(self.stamp))
        with self._new(full_ref) as full_out, self._new(delta_ref) as delta_out:
            facts, header = write_full(
                fd=subject.source.fd,
                disk=subject.disk,
                name=full_ref.name,
                full_out=full_out,
                delta_out=delta_out,
                time=self.time,
                effort=self.options.effort,
                block_digest=self.options.block_digest,
                scratch=self.options.scratch,
                tick=self._tick(subject),
            )
            subject.source.unchanged()
            full_out.publish()
            delta_out.publish()
        return BackupResult(delta=delta_ref, full=full_ref, header=header, bytes_written=facts.size + header.file_size)

    def delta(self, subject: Subject, base: _Base) -> BackupResult:
        delta_ref = self._ref(_new_backup(subject, base).paths(self.stamp)[0])
        with self.target.open(base.empty_delta.ref.path) as source, self._new(delta_ref) as out:
            known = self._sound(source, base)
            self.reporter.note(f"{naming.printable(subject.disk.disk)}: a Delta against {base.full.ref}")
            if why := _of_another_disk(known.header.source, subject.disk.path):
                self.reporter.note(f"{naming.printable(subject.disk.disk)}: {why}")
            header = write_delta(
                fd=subject.source.fd,
                disk=subject.disk,
                base=known,
                out=out,
                time=self.time,
                effort=self.options.effort,
                scratch=self.options.scratch,
                tick=self._tick(subject),
            )
            subject.source.unchanged()
            out.publish()
        return BackupResult(delta=delta_ref, full=None, header=header, bytes_written=header.file_size)

    def _sound(self, source: ByteSource, base: _Base) -> DeltaReader:
        """Returns the opened empty Delta of the base. Raises `BadArchive` if it or its Full is damaged."""
        try:
            known = DeltaReader(source)
            known.check_metadata()
            with self.target.open(base.full.ref.path) as full_source:
                FullReader(full_source).prove(known)
        except BadArchive as error:
            raise BadArchive(error.message, remedy="Bring another copy of it, or begin anew with a Full (--full).") from error
        return known

    def _ref(self, path: str) -> ArchiveRef:
        return ArchiveRef(target=self.target.spec.name, path=path)

    def _tick(self, subject: Subject) -> Callable[[int], None]:
        disk = subject.disk
        return lambda done: self.reporter.progress(disk.disk, done, disk.disk_size)

    @contextmanager
    def _new(self, ref: ArchiveRef) -> Iterator[NewFile]:
        """Creates an archive, and removes it at the end unless it was published."""
        out = self.target.create(ref.path)
        try:
            yield out
        except FileExistsError as error:
            raise TryAgainLater(f"{ref}: another backup took this name meanwhile", remedy="Run the backup again.") from error
        finally:
            out.discard()
