"""Gives a finished part file its final name: a new disk never over anything, a replaced one by exchange.

A name is checked after it is used: the part file first gets a private name by rename, and must then be the file that was written.
A disk is never renamed over. The new file and the old one change names in one step (RENAME_EXCHANGE); then the old one is proved:
nobody had it open and nobody wrote it; if that fails they change back. Where the file system cannot exchange, the old disk gets a
second private name first. The record in the hold (`Replacement`) says beforehand which inode is which, so that after a crash
`recovery` finishes the exchange, or undoes it. docs/disk.md has the table of these states.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from dataclasses import replace as changed
from typing import Any, Self

from restore_core import durable
from restore_core.capabilities import of_open_folder
from restore_core.disk.alone import Alone, alone, ctime_of, in_use_error, leased, lock_image
from restore_core.disk.destination import HIDDEN_SUFFIX, Destination
from restore_core.disk.hold import Hold
from restore_core.disk.identity import FileIdentity, Stamps, stamps_of
from restore_core.errors import DestinationError, DestinationExists, TryAgainLater, is_no_answer
from restore_core.naming import printable
from restore_core.restore.existing import ChangedMeanwhile, ExistingDisk
from restore_core.restore.publish import hide_descriptor
from restore_core.restore.receipt import boot_id
from restore_core.restore.redo import interrupted, unhide

_DOING = "replacing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """One of the two disks of a replacement, as the record describes it.

    `inode` is 0 where the file system does not keep the numbers of files (FUSE, FAT): there only names tell the two apart.
    """

    inode: int
    generation: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, stamps: Stamps, *, numbered: bool) -> Self:
        """Describes a file as it is now."""
        identity = stamps.identity
        return cls(
            inode=identity.inode if numbered else 0, generation=identity.generation, size=stamps.size, mtime_ns=stamps.mtime_ns
        )

    def is_it(self, stamps: Stamps) -> bool:
        """Whether it is the same file, whatever was written to it."""
        return not self.inode or FileIdentity(inode=self.inode, generation=self.generation).same(stamps.identity)

    def unchanged(self, fd: int) -> bool:
        """Whether the open file is this one and nobody wrote it since."""
        now = stamps_of(fd)
        return self.is_it(now) and (self.size, self.mtime_ns) == (now.size, now.mtime_ns)

    def unused(self, fd: int) -> bool:
        """Whether also nobody else has it open. The process must have no other descriptor of it."""
        return self.unchanged(fd) and alone(fd) is not Alone.NO


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """The record of one replacement of a disk by another, kept in the hold: after a crash it tells which file is which.

    `private` is the name of the new file before the exchange, and of the old one after it. Where the file system cannot exchange,
    the old one gets the name `aside`.
    """

    private: str
    aside: str
    new: RecordedFile
    old: RecordedFile
    descriptor: str | None
    boot: str
    proven: bool = False
    """The exchange is done and nobody had the old disk open: from here on recovery only goes forward."""

    @property
    def by_name(self) -> bool:
        """Whether only the names tell which file is which; then the two are never exchanged in one step."""
        return not self.new.inode

    def as_record(self) -> dict[str, Any]:
        """Returns the record for `Hold.write_record`."""
        return {"doing": _DOING, **asdict(self)}

    @classmethod
    def from_record(cls, record: dict[str, Any] | None, destination: Destination) -> Self | None:
        """Returns None for a record of anything else, and for one with names that are not ours: they may lead out of the folder."""
        if record is None or record.get("doing") != _DOING:
            return None
        with contextlib.suppress(KeyError, TypeError):
            new, old = RecordedFile(**record["new"]), RecordedFile(**record["old"])
            plain = {key: record[key] for key in ("private", "aside", "descriptor", "boot", "proven")}
            if destination.is_private(plain["private"]) and destination.is_private(plain["aside"]):
                return cls(new=new, old=old, **plain)
        return None

    @contextlib.contextmanager
    def opened(self, destination: Destination) -> Iterator[dict[str, tuple[str, int]]]:
        """Opens the "new" and the "old" file, whatever their names are now: (name, descriptor) for each that is there.

        Raises `OSError` if they cannot be looked for now.
        """
        found: dict[str, tuple[str, int]] = {}
        names = (destination.disk_name, self.private, self.aside, destination.part_name, *destination.private_names())
        try:
            for name in dict.fromkeys(names):
                if (fd := _opened(destination, name)) is None:
                    continue
                which = self._which_by_name(destination, name) if self.by_name else self._which(stamps_of(fd))
                if which and which not in found:
                    found[which] = (name, fd)
                else:
                    os.close(fd)
            yield found
        finally:
            for _name, fd in found.values():
                os.close(fd)

    def _which_by_name(self, destination: Destination, name: str) -> str:
        """Returns which file has a name: the old one has the disk's name until it gets the name `aside`."""
        moved = self.proven or destination.has(self.aside)
        if name == self.aside:
            return "old"
        if name == destination.disk_name:
            return "new" if moved else "old"
        return "new"

    def _which(self, stamps: Stamps) -> str:
        return "new" if self.new.is_it(stamps) else "old" if self.old.is_it(stamps) else ""


def _opened(destination: Destination, name: str) -> int | None:
    """Opens a file of the folder; returns None where there is none of ours.

    Raises an error that says nothing about the file: an old disk that cannot be opened for want of descriptors is not gone.
    """
    try:
        return destination.open(name)
    except OSError as error:
        if is_no_answer(error):
            raise
        return None


def publish_new(destination: Destination, hold: Hold, part: int) -> int:
    """Give the part file the final name. Returns its ctime, as `ctime_of` tells.

    Raises `DestinationExists` if the name is taken, and the rest as `replace`.
    """
    hold.refuse_if_lost()
    destination.refuse_if_moved()
    _refuse_unless_part_is_ours_alone(destination, part)
    private = destination.private_name()
    _make_private(destination, part, private)
    try:
        with leased(part) as lone:
            destination.move(private, destination.disk_name)
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
    """Put the part file in the place of the disk that is there. Returns the new name of the old one, and the ctime of the new one.

    `descriptor` is the text that the new disk will have: recovery needs it after the exchange. Raises what `ExistingDisk.prove`
    raises, `TryAgainLater` and `OSError`; then the old disk has its name as before, or `recovery` gives it back.
    """
    old.prove()
    hold.refuse_if_lost()
    _refuse_unless_part_is_ours_alone(destination, part)
    numbered = of_open_folder(destination.folder_fd).steady_numbers is not False
    record = Replacement(
        private=destination.private_name(),
        aside=destination.private_name(),
        new=RecordedFile.of(stamps_of(part), numbered=numbered),
        old=RecordedFile.of(old.stamps, numbered=numbered),
        descriptor=descriptor,
        boot=boot_id(),
    )
    hold.write_record(record.as_record())
    try:
        _make_private(destination, part, record.private)
        if old.stamps.size != record.new.size:
            hide_descriptor(destination)
        with leased(part) as lone, old.renamed():
            left = _exchange(destination, record)
            ctime = ctime_of(part, lone)
        old.prove_again(left)
        _refuse_unless_ours(destination, part)
        hold.write_record(changed(record, proven=True).as_record())
    except BaseException:
        try:
            take_back(destination, hold, record, part, old)
        except OSError as error:
            raise interrupted(destination.where, error) from error
        raise
    return left, ctime


def remove_old_disk(destination: Destination, hold: Hold, left: str, old: ExistingDisk) -> None:
    """Delete the old disk: the new one has its descriptor and its receipt. Raises `OSError`."""
    name = destination.descriptor_name
    if destination.leads_to(left, old.fd):
        destination.remove(left)
    if name and destination.has(name):
        destination.remove(name + HIDDEN_SUFFIX)
    hold.clear_record()


def take_back(destination: Destination, hold: Hold, record: Replacement, part: int, old: ExistingDisk) -> None:
    """Give the old disk its name again. If that fails, the record stays, and `recovery` decides when nobody has the disks open.

    Raises `DestinationInUse` if the new disk was opened meanwhile, too; `DestinationError` when a third file took the name;
    `OSError`.
    """
    disk = destination.disk_name
    now = next((name for name in (disk, record.private, record.aside) if destination.leads_to(name, old.fd)), None)
    if now is None and destination.leads_to(disk, part):
        return  # somebody removed the old disk: recovery gives the new one its descriptor
    if now is not None and now != disk:
        if destination.leads_to(disk, part):
            if alone(part) is Alone.NO:
                raise in_use_error(destination.where, f"the old disk ({printable(now)}) and the new one were both opened")
            if now == record.private:
                durable.exchange(now, disk, dir_fd=destination.folder_fd)
            else:
                destination.move(disk, record.private)
            if alone(part) is Alone.NO:
                raise in_use_error(
                    destination.where, f"the new disk ({printable(record.private)}) was opened, too; the old one is back"
                )
        elif destination.has(disk):
            raise third_file(destination, now)
        if not destination.leads_to(disk, old.fd):
            destination.move(now, disk)
    if destination.leads_to(record.private, part):
        back_to_part(destination, record.private)
    unhide(destination)
    hold.clear_record()


def _refuse_unless_part_is_ours_alone(destination: Destination, part: int) -> None:
    """Refuse while another program has the part file open: it could write into the published disk. Keep QEMU from opening it."""
    if alone(part) is Alone.NO:
        raise in_use_error(destination.where, f"another program has {printable(destination.part_name)} open")
    lock_image(part, destination.where)


def _make_private(destination: Destination, part: int, private: str) -> None:
    """Give the part file the private name, and prove that it is the file behind `part`. Raises `TryAgainLater`, `OSError`."""
    try:
        destination.move(destination.part_name, private)
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
    """Give the new file the disk's name. Returns the name that the old disk has afterwards. Raises `OSError`."""
    disk = destination.disk_name
    try:
        if not record.by_name and _exchanged(destination, record.private):
            return record.private
        destination.move(disk, record.aside)
    except FileNotFoundError as error:
        if destination.has(disk):
            raise
        raise ChangedMeanwhile("somebody removed it", written=True) from error
    destination.move(record.private, disk)
    return record.aside


def _exchanged(destination: Destination, private: str) -> bool:
    """Exchange the disk and the file `private`. Returns False where the file system cannot. Raises `OSError`."""
    try:
        durable.exchange(private, destination.disk_name, dir_fd=destination.folder_fd)
    except OSError as error:
        if error.errno not in durable.NO_RENAME_FLAGS:
            raise
        return False
    return True


def _refuse_unless_ours(destination: Destination, part: int) -> None:
    if not destination.leads_to(destination.disk_name, part):
        raise ChangedMeanwhile("another file took its name just after it was given", written=True)
    destination.refuse_if_moved()


def back_to_part(destination: Destination, private: str) -> None:
    """Rename a file with a private name to the part file's name; delete it where there is a part file already. Raises `OSError`.

    A file with a second name is deleted, too: it may be somebody's copy of a disk, and a part file is written to.
    """
    if os.stat(private, dir_fd=destination.folder_fd, follow_symlinks=False).st_nlink > 1:
        destination.remove(private)
        return
    try:
        destination.move(private, destination.part_name)
    except FileExistsError:
        destination.remove(private)


def third_file(destination: Destination, *names: str) -> DestinationError:
    """Returns the refusal when a third file has the disk's name."""
    now = ", ".join(printable(name) for name in names)
    return DestinationError(
        f"{destination.where}: a change of the disk was interrupted and a third file took the name; the disk is there as {now}",
        remedy="Decide which one is wanted, give it the name, remove the others, then restore again.",
    )
