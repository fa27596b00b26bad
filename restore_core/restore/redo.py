"""Changes a disk in place so that a crash at any moment leaves the old disk, or one that can be completed or taken back.

    D.phd-redo-part             being staged; the disk is untouched; after a crash this file is deleted
    D.phd-redo                  complete and durable, with the new bytes and the old ones (`redo_file`)
    V.phd-applying, D.phd-applying   descriptor and disk, hidden while the disk is changed, so that nobody opens it by its name

D is the flat file or raw image, V the descriptor. V is hidden first and comes back last. The caller has proved before that nobody
else has the disk open (`existing`); once D is hidden, nobody can open it by its name. docs/disk.md has a table of what each crash
leaves; `recovery` completes the change.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from restore_core import durable
from restore_core.disk.allocation import set_size, zero_range
from restore_core.disk.alone import ctime_of, leased
from restore_core.disk.destination import HIDDEN_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, Destination
from restore_core.errors import DestinationError, PhdError, TryAgainLater, from_os_error, remedy_for
from restore_core.naming import printable
from restore_core.restore.existing import ExistingDisk
from restore_core.restore.publish import hide_descriptor, prepare_descriptor, show_descriptor
from restore_core.restore.redo_file import RedoChange, RedoFile, Side


def stage(destination: Destination) -> int:
    """Makes a new redo file for `redo_file.StagedBlocks`; returns its descriptor. Raises `OSError`."""
    try:
        return durable.take_part(destination.disk_name + STAGED_SUFFIX, dir_fd=destination.folder_fd)
    except OSError:
        discard(destination)
        raise


def seal(destination: Destination) -> None:
    """Give the staged file, which is complete and durable, its name. Raises `OSError`."""
    destination.move(destination.disk_name + STAGED_SUFFIX, destination.disk_name + REDO_SUFFIX, replace=True)


def discard(destination: Destination) -> None:
    """Delete the redo file, staged or sealed, while the disk is under its name, wholly old or wholly new.

    The redo file must never come back after a power cut, when a VM may have written the disk. So it is first renamed, durably, to a
    name that recovery only deletes; a durable unlink costs much more where freed blocks are discarded (0.19 s for 86 MB).
    """
    name = destination.disk_name
    if pending(destination):
        try:
            destination.move(name + REDO_SUFFIX, name + STAGED_SUFFIX, replace=True)
        except OSError as error:
            text = f"{destination.where}: the disk is whole, but its redo file cannot be renamed: {error.strerror}"
            raise TryAgainLater(text, remedy=f"{remedy_for(error)} The next restore onto this disk removes it.") from error
    destination.remove(name + STAGED_SUFFIX)


def pending(destination: Destination) -> bool:
    """Whether there is a redo file for this disk."""
    return destination.has(destination.disk_name + REDO_SUFFIX)


def hidden(destination: Destination) -> bool:
    """Whether the disk or its descriptor is still without its name."""
    name, has = destination.descriptor_name, destination.has
    without = name is not None and has(name + HIDDEN_SUFFIX) and not has(name)
    return without or has(destination.disk_name + HIDDEN_SUFFIX)


def in_its_place(destination: Destination) -> bool:
    """Whether people can see and start the disk: its descriptor, if it had one, and the disk have their names."""
    there = destination.stat_disk() is not None
    if destination.has(destination.disk_name + HIDDEN_SUFFIX):
        return False  # the file under the disk's name is a third one
    if destination.raw or not destination.has((destination.descriptor_name or "") + HIDDEN_SUFFIX):
        return there
    return there and destination.stat_descriptor() is not None


def hide(destination: Destination, old: ExistingDisk) -> None:
    """Take their names from descriptor and disk, durably.

    Raises `OSError` and as `ExistingDisk.prove`, after it gave the names back; `TryAgainLater` if that failed, too.
    """
    try:
        hide_descriptor(destination, sync=False)  # durable with the next rename; a power cut may leave either of them undone
        with old.renamed():
            destination.move(destination.disk_name, destination.disk_name + HIDDEN_SUFFIX)
    except BaseException:
        with only_by_recovery(destination.where):
            unhide(destination)
        raise


def unhide(destination: Destination) -> None:
    """Give disk and descriptor their names again, as they are; harmless where nothing is hidden. Raises `OSError`."""
    for name in (destination.disk_name, destination.descriptor_name):
        if name is not None and destination.has(name + HIDDEN_SUFFIX) and not destination.has(name):
            destination.move(name + HIDDEN_SUFFIX, name)


def show(destination: Destination, fd: int, descriptor: str | None) -> int:
    """Give the disk behind `fd`, which is new and durable, its name back, and its new descriptor. Raises `OSError`.

    Returns its ctime, as `ctime_of` tells.
    """
    disk = destination.disk_name
    prepare_descriptor(destination, descriptor, 0o600)
    ctime = 0
    if destination.has(disk + HIDDEN_SUFFIX):
        with leased(fd) as lone:
            # With a descriptor its rename, which follows, makes this one durable, too.
            destination.move(disk + HIDDEN_SUFFIX, disk, sync=destination.raw)
            ctime = ctime_of(fd, lone)
    show_descriptor(destination, replace=False)
    return ctime


def apply(destination: Destination, disk: int, redo: RedoFile, side: Side) -> None:
    """Write one side of every change to the open disk, and make it durable.

    Checks each block once more before it writes it: raises `TryAgainLater` for a damaged redo file, and `OSError`.
    """
    footer = redo.footer
    _resize(disk, max(footer.size_before, footer.size_after), thick=footer.thick)
    # Data first, into blocks that are allocated: another file may take blocks that are punched a moment later.
    for offset, length in list(_written(destination, disk, redo, side)):
        zero_range(disk, offset, length, thick=footer.thick)
    _resize(disk, footer.size(side), thick=footer.thick)
    durable.sync_file(disk)


def apply_or_take_back(
    destination: Destination, disk: int, redo: RedoFile, *, check: Callable[[], None], taken_back: Callable[[], None]
) -> None:
    """Bring the disk to its new state and `check` it; if that fails, back to the old one. Raises what stopped it.

    After an error the disk is as it was before and has its names again; or, if even that failed, it stays hidden, and raises
    `TryAgainLater`, which says what to do. `taken_back` is called when its bytes are old again, and again when its name is back:
    each changes its times.
    """
    try:
        apply(destination, disk, redo, Side.NEW)
        check()
    except (OSError, PhdError) as error:
        with only_by_recovery(destination.where):
            apply(destination, disk, redo, Side.OLD)
            taken_back()
            unhide(destination)
            taken_back()
            discard(destination)
        if isinstance(error, OSError):
            doing = "changing the disk in place (it was put back as it was)"
            raise from_os_error(error, doing=doing, where=destination.where) from error
        raise


@contextlib.contextmanager
def only_by_recovery(where: str) -> Iterator[None]:
    """Turns every error into `TryAgainLater`, also one that is final for a new restore: the disk is hidden until this is done."""
    try:
        yield
    except (OSError, DestinationError) as error:
        raise interrupted(where, error) from error


def interrupted(where: str, error: OSError | DestinationError) -> TryAgainLater:
    """Returns the error of a disk that may be hidden, or have another name, until another attempt ends what was begun."""
    why = error.message if isinstance(error, DestinationError) else str(error)
    return TryAgainLater(
        f"{where}: a change of the disk was interrupted and cannot go on: {printable(why)}; the disk is hidden until it is done",
        remedy="Mend the cause. The next attempt goes on; or type 'phd recover DISK', or with --back to take the change back.",
    )


def _written(destination: Destination, disk: int, redo: RedoFile, side: Side) -> Iterator[tuple[int, int]]:
    """Writes the blocks that hold data; yields (offset, length) of the runs that must become zero."""
    start = end = 0
    for change in redo.changes():
        if not change.on(side).zero:
            durable.write_all_at(disk, _checked(destination, redo, change, side), change.offset)
            continue
        if change.offset != end:
            if end > start:
                yield start, end - start
            start = change.offset
        end = change.offset + change.on(side).length
    if end > start:
        yield start, end - start


def _checked(destination: Destination, redo: RedoFile, change: RedoChange, side: Side) -> bytes:
    data = redo.data(change, side)
    if data is None:
        raise TryAgainLater(
            f"{destination.where}: the redo file is damaged at the {side.value} block at {change.offset}",
            remedy="Look at the kernel's log; 'phd recover DISK --back' takes the change back.",
        )
    return data


def _resize(disk: int, size: int, *, thick: bool) -> None:
    before = os.fstat(disk).st_size
    if size == before:
        return
    set_size(disk, size)
    if thick and size > before:
        zero_range(disk, before, size - before, thick=True)
