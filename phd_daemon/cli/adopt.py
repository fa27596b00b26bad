"""`phd adopt FULL`: makes the empty Delta for a gzip of a flat disk that something else wrote. The gzip stays as it is."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid as uuid_module
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import click

from phd_daemon.cli import show
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.live import FullLine, LiveReport
from phd_daemon.cli.options import archive_ref, config_option, read_config, scsi_option
from phd_daemon.known import written_to
from phd_daemon.process import forbid_core_dumps, tune_malloc
from restore_core.archive.delta_writer import DiskFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.full_reader import FullReader
from restore_core.backup.adopt import write_adopted
from restore_core.errors import ArchiveAbsent, DestinationExists, UsageError
from restore_core.naming import delta_name, parse_archive, parse_folder, printable
from restore_core.restore.request import Phase, Progress
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef
from restore_core.targets.local import create_local_file

_NAMESPACE = uuid_module.UUID("8c6f1d0e-5a43-5c1b-9a55-7068642d7068")
_OTHER_ENDINGS = (".phd", ".gz")


@click.command()
@click.argument("full")
@click.option("--vm", metavar="NAME", help="The VM's name; default: from the folder.")
@click.option("--uuid", help="The VM's UUID; default: from the folder, else derived from the names.")
@scsi_option
@config_option
def adopt(*, full: str, vm: str | None, uuid: str | None, scsi: str | None, config: Path | None) -> None:
    """Make the empty Delta for FULL, so that it can be verified, queued, and restored block by block.

    FULL is any gzip of a flat disk. Its Delta is put beside it.
    """
    settings = read_config(config)
    targets = TargetSet(settings.targets)
    ref = archive_ref(full, targets.specs)
    stamp = _stamp(ref, targets)
    disk = disk_of(ref, vm=vm, uuid=uuid, scsi=scsi)
    empty = ref.beside(delta_name(scsi=disk.scsi, disk=disk.disk, stamp=stamp, base=stamp))
    _refuse_taken(empty, targets)
    forbid_core_dumps()
    tune_malloc()
    _write(ref, empty, disk, targets, settings.backup.staging_dir)
    if empty.target != LOCAL:
        written_to(settings, empty.target)
    show.say(f"empty Delta {empty}")


def disk_of(ref: ArchiveRef, *, vm: str | None, uuid: str | None, scsi: str | None) -> DiskFacts:
    """Whose disk it is: what the person said, else what folder and name say, else the name itself. The size comes later."""
    if uuid is not None and len(uuid) != 36:
        raise UsageError(f"{printable(uuid)!r} is not a UUID", remedy="Write it as 564d122a-0ed7-3b92-2f46-aee9456b2074.")
    name, folder = parse_archive(ref.name), parse_folder(ref.folder)
    disk = name.disk if name is not None else _without_endings(ref.name)
    whose = vm or folder.vm or PurePosixPath(disk).stem
    known = uuid or folder.uuid or str(uuid_module.uuid5(_NAMESPACE, f"{whose}/{disk}"))
    return DiskFacts(vm=whose, uuid=known, scsi=scsi or (name.scsi if name is not None else "00"), disk=disk, disk_size=0)


def _without_endings(name: str) -> str:
    for ending in _OTHER_ENDINGS:
        name = name.removesuffix(ending) or name
    return name


def _stamp(ref: ArchiveRef, targets: TargetSet) -> dt.datetime:
    """The stamp in the Full's name, else the time of the file, local to its target."""
    name = parse_archive(ref.name)
    if name is not None:
        return name.stamp
    with targets.open(ref):  # an archive that is not there is told as such, and not by its time
        pass
    if ref.target == LOCAL:
        mtime, zone = os.stat(ref.path).st_mtime, "UTC"
    else:
        mtime, zone = targets[ref.target].stat(ref.path).mtime, targets.specs[ref.target].timezone
    return dt.datetime.fromtimestamp(mtime, ZoneInfo(zone)).replace(tzinfo=None, second=0, microsecond=0)


def _refuse_taken(empty: ArchiveRef, targets: TargetSet) -> None:
    try:
        targets.open(empty).close()
    except ArchiveAbsent:
        return
    raise _taken(empty)


def _taken(empty: ArchiveRef) -> DestinationExists:
    return DestinationExists(f"{empty} is there already", remedy="Prove it with 'phd verify'; move it away if it is bad.")


def _write(ref: ArchiveRef, empty: ArchiveRef, disk: DiskFacts, targets: TargetSet, scratch: Path) -> None:
    report = LiveReport(FullLine())
    with interruptible() as stop, targets.open(ref) as source:
        full = FullReader(source)
        out = create_local_file(empty.path) if empty.target == LOCAL else targets[empty.target].create(empty.path)
        try:
            write_adopted(
                full=full,
                disk=disk,
                name=ref.name,
                out=out,
                time=int(time.time()),
                block_digest=BlockDigest.BLAKE3,
                scratch=scratch,
                tick=_tick(report, stop),
            )
            out.publish()
        except FileExistsError as error:
            raise _taken(empty) from error
        finally:
            out.discard()
            report.close()


def _tick(report: LiveReport, stop: Callable[[], None]) -> Callable[[int], None]:
    started = time.monotonic()

    def tick(done: int) -> None:
        stop()
        report.progress(
            Progress(
                phase=Phase.VERIFY,
                disk_size=done,
                done=done,
                moved=done,
                delta_done=0,
                delta_total=0,
                full_done=done,
                full_total=done,
                started=started,
            )
        )

    return tick
