"""Lists the partitions and files in a backup, and takes files out of it, without restoring the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.guest.reader import GuestReader
from phd_daemon.operations.installation import prepare_process
from restore_core.disk.confinement import let_go, walk_to
from restore_core.errors import BadData, PhdError, Stopped, UsageError, from_os_error
from restore_core.naming import printable
from restore_core.serve.disk import DiskRequest, ServedDisk, open_served_disk
from restore_core.serve.file_systems import FILE_SYSTEMS
from restore_core.serve.file_systems.guest_file import GuestFacts
from restore_core.serve.magic_bytes import DiskBytes
from restore_core.serve.partitions import Partition, PartitionTable, read_partitions
from restore_core.serve.taken import FolderWriter, LeftOut, TakenFiles
from restore_core.targets.base import ArchiveRef, Stop

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from restore_core.restore.request import Reporter
    from restore_core.targets import TargetSet

_OTHERS = "'phd mount' and 'phd serve' give the disk to other programs, such as guestfish."


@dataclass(frozen=True, slots=True, kw_only=True)
class InPartition:
    """A path in a partition; no names: its root."""

    partition: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return printable(f"{self.partition}:/{'/'.join(self.names)}")


@dataclass(slots=True, kw_only=True)
class Listing:
    """What a folder holds, or the one file that was named. `notes` are on the file system, `problem` if not all was seen."""

    files: list[GuestFacts] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    confined: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFiles:
    """What a person wants out of a backup. `owners`: keep user, group and the bits that depend on them."""

    where: tuple[InPartition, ...]
    to: Path
    overwrite: bool = False
    owners: bool = False


def parse_where(text: str) -> InPartition:
    """Reads `p1:/path`, `p1:` or `p1`. Raises `UsageError`."""
    partition, _, path = text.partition(":")
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if not partition or "/" in partition or ".." in names:
        remedy = "Write p1:/PATH, without '..'; 'phd ls DELTA' lists the partitions."
        raise UsageError(f"'{printable(text)}' is no path in a partition", remedy=remedy)
    return InPartition(partition=partition, names=names)


@contextlib.contextmanager
def opened_disk(
    settings: Config, targets: TargetSet, delta: ArchiveRef, *, full: ArchiveRef | None, reporter: Reporter
) -> Iterator[ServedDisk]:
    """Opens the disk of a backup for reading at random. Raises what `open_served_disk` raises."""
    prepare_process()
    request = DiskRequest(delta=delta, full=full, catalog=settings.catalog_folder, catalog_max_age=settings.index.max_age)
    with open_served_disk(request, targets, reporter=reporter) as disk:
        yield disk


def partitions_of(disk: DiskBytes) -> PartitionTable:
    """Returns what the disk is cut into. Raises what reading it raises."""
    return read_partitions(disk)


def list_files(disk: DiskBytes, where: InPartition, stop: Stop) -> Listing:
    """Returns what a path names. Raises `UsageError` if it is not there, `BadData` for a file system that cannot be read."""
    with GuestReader(disk, _readable(read_partitions(disk), where), stop) as reader:
        listing = _Lister(Listing(notes=reader.notes, confined=reader.confined))
        reader.walk(where.names, listing)
    return listing.found_so_far


def get_files(disk: DiskBytes, wanted: WantedFiles, stop: Stop, tick: Callable[[TakenFiles], None]) -> TakenFiles:
    """Writes files and whole folders into a folder of this host, which is made if it is missing.

    Raises `UsageError` and `BadData` where nothing at all could be taken; otherwise `left_out` says what is missing and why.
    `tick` is called often, with what was taken until then. `Stopped` says what is complete.
    """
    if wanted.owners and os.geteuid() != 0:
        raise UsageError("--owners: only root may give files to other users", remedy="Leave it out, or run this as root.")
    table = read_partitions(disk)
    parts = {where: _readable(table, where) for where in wanted.where}
    folder = wanted.to.absolute()
    try:
        fd = walk_to(Path(os.path.normpath(folder)), None).make_missing()
    except OSError as error:
        raise from_os_error(error, doing="opening the folder", where=printable(str(folder))) from error
    with contextlib.ExitStack() as held:
        held.callback(os.close, fd)
        held.callback(let_go, fd)
        writer = FolderWriter(fd, overwrite=wanted.overwrite, owners=wanted.owners)
        held.callback(writer.close)
        readers: dict[str, GuestReader] = {}
        refused: list[PhdError] = []

        def go_on() -> None:
            tick(writer.taken)
            try:
                stop()
            except Stopped as error:
                where_to = printable(str(folder))
                text = f"interrupted: {writer.taken.files} files are complete in {where_to}, the unfinished one is removed"
                raise Stopped(text) from error

        for where, part in parts.items():
            try:
                if part.name not in readers or readers[part.name].over:
                    readers[part.name] = held.enter_context(GuestReader(disk, part, go_on))
                    writer.taken.notes += [f"{part.name}: {note}" for note in readers[part.name].notes]
                _take(readers[part.name], writer, where)
            except (UsageError, BadData) as error:
                writer.close()
                refused.append(error)
                writer.taken.left_out.append(LeftOut(path=str(where), why=error.message, damaged=isinstance(error, BadData)))
        taken = writer.finish()
    if refused and not (taken.files or taken.folders or taken.links):
        raise refused[0]
    return taken


def _take(reader: GuestReader, writer: FolderWriter, where: InPartition) -> None:
    above = str(InPartition(partition=where.partition, names=where.names[:-1]))
    if where.names:
        writer.begin(name=where.names[-1], prefix=above if above.endswith("/") else f"{above}/")
    else:
        writer.begin(name=where.partition, prefix="")
    reader.walk(where.names, writer)


def _readable(table: PartitionTable, where: InPartition) -> Partition:
    """Returns the partition that is meant, if its file system is one of those that are read here. Raises `UsageError`."""
    part = table.find(where.partition)
    if part is None:
        known = ", ".join(one.name for one in table.partitions) or "none"
        raise UsageError(f"there is no partition {printable(where.partition)}; there are: {known}", remedy=_see(table.marks))
    if part.file_system not in FILE_SYSTEMS:
        holds = f"holds {part.file_system}" if part.file_system else f"holds nothing that is known ({part.type})"
        raise UsageError(f"{part.name} {holds}: phd reads ext2-4, XFS, NTFS and FAT", remedy=_OTHERS)
    return part


def _see(marks: Sequence[str]) -> str:
    return f"The partition table is odd: {'; '.join(marks)}." if marks else "'phd ls DELTA' lists them."


class _Lister:
    """The visitor that makes a `Listing`: it enters the folder that was named, and no other."""

    def __init__(self, listing: Listing) -> None:
        self.found_so_far = listing

    def found(self, facts: GuestFacts, depth: int) -> bool:
        if depth == 0 and facts.kind == "folder":
            return True
        self.found_so_far.files.append(facts)
        return False

    def left(self, problem: str) -> None:
        self.found_so_far.problem = problem

    def data(self, piece: bytes) -> None:
        raise NotImplementedError

    def hole(self, length: int) -> None:
        raise NotImplementedError

    def ended(self, problem: str) -> None:
        raise NotImplementedError
