"""Gives a finished part file its final name: a new disk never over anything, a replaced one by exchange.

A name is checked after it is used: the part file first gets a private name by rename, and must then be the file that was written.
A disk is never renamed over. The new file and the old one change names in one step (RENAME_EXCHANGE); then it is proved, on the
old one, that nobody had it open and nobody wrote it; if that fails they change back. Where the file system cannot exchange, the
old disk gets a second private name first. The record in the hold says beforehand which inode is which (`replacement`), so that
after a crash `recovery` finishes the exchange, or undoes it. The table of these states is in docs/disk.md.
"""

from __future__ import annotations

import dataclasses
import errno

from restore_core import durable
from restore_core.disk.alone import Alone, alone, ctime_of, in_use, leased, lock_image
from restore_core.disk.destination import HIDDEN_SUFFIX, Destination
from restore_core.disk.hold import Hold
from restore_core.disk.identity import stamps_of
from restore_core.errors import DestinationExists, TryAgainLater
from restore_core.naming import printable
from restore_core.restore.existing import ChangedMeanwhile, ExistingDisk
from restore_core.restore.receipt import boot_id
from restore_core.restore.redo import exists, unhide
from restore_core.restore.replacement import RecordedFile, Replacement, back_to_part, third_file

CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def publish_new(destination: Destination, hold: Hold, part: int) -> int:
    """Give the part file the final name, if that is free; else `DestinationExists`. Returns its ctime, as `ctime_of` tells.

    Raises the rest as `replace`.
    """
    hold.refuse_if_lost()
    destination.refuse_if_moved()
    _refuse_unless_part_is_ours_alone(destination, part)
    private = destination.private_name()
    _make_private(destination, part, private)
    folder = destination.folder_fd
    try:
        with leased(part) as lone:
            durable.move(private, destination.disk_name, source_dir_fd=folder, to_dir_fd=folder)
            ctime = ctime_of(part, lone)
    except OSError as error:
        if destination.leads_to(private, part):
            back_to_part(destination, private)
        if not isinstance(error, FileExistsError):
            raise
        raise DestinationExists(
            f"{destination.where}: somebody put a disk there while this one was written",
            remedy="Look at it. Restore again, with overwrite = true (--overwrite) if it may be replaced.",
        ) from error
    _refuse_unless_ours(destination, part)
    return ctime


def replace(destination: Destination, hold: Hold, part: int, old: ExistingDisk, *, descriptor: str | None) -> tuple[str, int]:
    """Put the part file in the place of the disk that is there; the old one's name by now, and the new one's ctime (`ctime_of`).

    `descriptor` is the text that the new disk will have: a crash after the exchange needs it. Raises what `ExistingDisk.prove`
    raises, `TryAgainLater` and `OSError`; then the old disk lies in its place as before, or `recovery` puts it there.
    """
    old.prove()
    hold.refuse_if_lost()
    _refuse_unless_part_is_ours_alone(destination, part)
    record = Replacement(
        private=destination.private_name(),
        aside=destination.private_name(),
        new=RecordedFile.of(stamps_of(part)),
        old=RecordedFile.of(old.stamps),
        descriptor=descriptor,
        boot=boot_id(),
    )
    hold.write_record(record.as_record())
    try:
        _make_private(destination, part, record.private)
        if old.stamps.size != record.new.size:
            _hide_descriptor(destination)
        with leased(part) as lone, old.renamed():
            left = _exchange(destination, record)
            ctime = ctime_of(part, lone)
        old.prove_again(left)
        _refuse_unless_ours(destination, part)
        hold.write_record(dataclasses.replace(record, proven=True).as_record())
    except BaseException:
        take_back(destination, hold, record, part, old)
        raise
    return left, ctime


def finish(destination: Destination, hold: Hold, left: str, old: ExistingDisk) -> None:
    """The new disk has its descriptor and is on record: the old one goes. Raises `OSError`."""
    folder, name = destination.folder_fd, destination.descriptor_name
    if destination.leads_to(left, old.fd):
        durable.remove(left, dir_fd=folder, durable=False)
    if name and exists(destination, name):
        durable.remove(name + HIDDEN_SUFFIX, dir_fd=folder, durable=False)
    hold.clear_record()


def take_back(destination: Destination, hold: Hold, record: Replacement, part: int, old: ExistingDisk) -> None:
    """Give the old disk its name again. If that cannot be, the record stays, and `recovery` decides when all are gone.

    Raises `DestinationInUse` if the new disk was opened, too, within that moment; `DestinationError` when a third file took the
    name; `OSError`.
    """
    folder, disk = destination.folder_fd, destination.disk_name
    lies = next((name for name in (disk, record.private, record.aside) if destination.leads_to(name, old.fd)), None)
    if lies is None and destination.leads_to(disk, part):
        return  # somebody removed the old disk: recovery gives the new one its descriptor
    if lies is not None and lies != disk:
        if destination.leads_to(disk, part):
            if alone(part) is Alone.NO:
                raise in_use(destination.where, f"the old disk ({printable(lies)}) and the new one were both opened")
            if lies == record.private:
                durable.exchange(lies, disk, dir_fd=folder)
            else:
                durable.move(disk, record.private, source_dir_fd=folder, to_dir_fd=folder)
            if alone(part) is Alone.NO:
                raise in_use(destination.where, f"the new disk ({printable(record.private)}) was opened, too; the old one is back")
        elif exists(destination, disk):
            raise third_file(destination, lies)
        if not destination.leads_to(disk, old.fd):
            durable.move(lies, disk, source_dir_fd=folder, to_dir_fd=folder)
    if destination.leads_to(record.private, part):
        back_to_part(destination, record.private)
    unhide(destination)
    hold.clear_record()


def _refuse_unless_part_is_ours_alone(destination: Destination, part: int) -> None:
    """Whoever has the part file open would go on writing into the published disk. From now on no QEMU opens it for writing."""
    if alone(part) is Alone.NO:
        raise in_use(destination.where, f"another program has {printable(destination.part_name)} open")
    lock_image(part, destination.where)


def _make_private(destination: Destination, part: int, private: str) -> None:
    """Give the part file the private name, and prove that it is the file behind `part`. Raises `TryAgainLater`, `OSError`."""
    folder = destination.folder_fd
    try:
        durable.move(destination.part_name, private, source_dir_fd=folder, to_dir_fd=folder)
    except FileNotFoundError as error:
        raise _part_is_not_ours(destination) from error
    if not destination.leads_to(private, part):
        back_to_part(destination, private)
        raise _part_is_not_ours(destination)


def _part_is_not_ours(destination: Destination) -> TryAgainLater:
    return TryAgainLater(
        f"{destination.where}: somebody removed or replaced {printable(destination.part_name)} while it was written",
        remedy="Nothing was shown. Find out who removes files there; a queued job is tried again.",
    )


def _exchange(destination: Destination, record: Replacement) -> str:
    """The name under which the old disk lies afterwards. Raises `OSError`."""
    folder, disk = destination.folder_fd, destination.disk_name
    try:
        durable.exchange(record.private, disk, dir_fd=folder)
        return record.private
    except FileNotFoundError as error:
        if exists(destination, disk):
            raise
        raise ChangedMeanwhile("somebody removed it", written=True) from error
    except OSError as error:
        if error.errno not in CANNOT_EXCHANGE:
            raise
    durable.move(disk, record.aside, source_dir_fd=folder, to_dir_fd=folder)
    durable.move(record.private, disk, source_dir_fd=folder, to_dir_fd=folder)
    return record.aside


def _hide_descriptor(destination: Destination) -> None:
    name, folder = destination.descriptor_name, destination.folder_fd
    if name is not None and exists(destination, name):
        durable.move(name, name + HIDDEN_SUFFIX, replace=True, source_dir_fd=folder, to_dir_fd=folder)


def _refuse_unless_ours(destination: Destination, part: int) -> None:
    if not destination.leads_to(destination.disk_name, part):
        raise ChangedMeanwhile("another file took its name just after it was given", written=True)
    destination.refuse_if_moved()
