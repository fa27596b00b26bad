"""Changes a disk in place so that a crash at any moment leaves the old disk, or one that can be completed or taken back.

    D.phd-redo-part             being staged; nothing of the disk was touched; a crash leaves it to be thrown away
    D.phd-redo                  complete and durable, with the new bytes and the old ones (`redo_file`)
    V.phd-applying, D.phd-applying   descriptor and disk, hidden while the disk is changed, so that nobody opens it by its name

D is the flat file or raw image, V the descriptor. V is hidden first and comes back last. Who may do all this has proved before
that nobody else has the disk open (`existing`); once D is hidden, nobody can open it by its name. What is said here about
crashes stands as a table in docs/disk.md; `recover` completes what a crash interrupted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from restore_core import durable
from restore_core.disk.allocation import zero_range
from restore_core.disk.alone import ctime_of, leased
from restore_core.disk.destination import HIDDEN_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, Destination
from restore_core.errors import DestinationError, PhdError, TryAgainLater, from_os_error
from restore_core.naming import printable
from restore_core.restore.descriptor import prepare_descriptor, show_descriptor
from restore_core.restore.existing import ExistingDisk
from restore_core.restore.redo_file import Change, RedoFile, Side


def stage(destination: Destination) -> int:
    """A new redo file for `staging.StagedBlocks` to write into; returns its descriptor."""
    try:
        return durable.take_part(destination.disk_name + STAGED_SUFFIX, dir_fd=destination.folder_fd)
    except OSError:
        discard(destination)
        raise


def seal(destination: Destination) -> None:
    """The staged file is complete and durable: it gets its name. Raises `OSError`."""
    name, folder = destination.disk_name, destination.folder_fd
    durable.move(name + STAGED_SUFFIX, name + REDO_SUFFIX, replace=True, source_dir_fd=folder, to_dir_fd=folder)


def discard(destination: Destination) -> None:
    """Throw away what was staged, and perhaps already sealed, while the disk lies in its place, old or new as a whole.

    The redo file must never come back after a power cut, when a VM may have written the disk. So it is first renamed to what is
    only thrown away, durably; a durable unlink costs much more where freed blocks are discarded (0.19 s for 86 MB).
    """
    name, folder = destination.disk_name, destination.folder_fd
    if pending(destination):
        try:
            durable.move(name + REDO_SUFFIX, name + STAGED_SUFFIX, replace=True, source_dir_fd=folder, to_dir_fd=folder)
        except OSError as error:
            text = f"{destination.where}: the disk is whole, but its redo file cannot be put away: {error.strerror}"
            raise TryAgainLater(text, remedy="Mend the cause; the next restore onto this disk removes it.") from error
    durable.remove(name + STAGED_SUFFIX, dir_fd=folder, durable=False)


def pending(destination: Destination) -> bool:
    """Whether there is a redo file for this disk."""
    return exists(destination, destination.disk_name + REDO_SUFFIX)


def hidden(destination: Destination) -> bool:
    """Whether disk or descriptor have not got their names back."""
    name = destination.descriptor_name
    without = name is not None and exists(destination, name + HIDDEN_SUFFIX) and not exists(destination, name)
    return without or exists(destination, destination.disk_name + HIDDEN_SUFFIX)


def in_its_place(destination: Destination) -> bool:
    """Whether people can see and start the disk. Without a descriptor from the start, its own name is what counts."""
    there = destination.stat_disk() is not None
    if exists(destination, destination.disk_name + HIDDEN_SUFFIX):
        return False  # what lies there is a third file
    if destination.raw or not exists(destination, (destination.descriptor_name or "") + HIDDEN_SUFFIX):
        return there
    return there and destination.stat_descriptor() is not None


def hide(destination: Destination, old: ExistingDisk) -> None:
    """Take their names from descriptor and disk, durably.

    Raises `OSError` and as `ExistingDisk.prove`, with what was hidden back in its place.
    """
    folder, name = destination.folder_fd, destination.descriptor_name
    try:
        if name is not None and exists(destination, name):
            # Durable with the next rename; a power cut may leave either of them undone.
            durable.move(name, name + HIDDEN_SUFFIX, replace=True, durable=False, source_dir_fd=folder, to_dir_fd=folder)
        disk = destination.disk_name
        with old.renamed():
            durable.move(disk, disk + HIDDEN_SUFFIX, source_dir_fd=folder, to_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            unhide(destination)
        raise


def unhide(destination: Destination) -> None:
    """Give disk and descriptor their names again, as they are; harmless where nothing is hidden. Raises `OSError`."""
    folder = destination.folder_fd
    for name in (destination.disk_name, destination.descriptor_name):
        if name is not None and exists(destination, name + HIDDEN_SUFFIX) and not exists(destination, name):
            durable.move(name + HIDDEN_SUFFIX, name, source_dir_fd=folder, to_dir_fd=folder)


def show(destination: Destination, fd: int, descriptor: str | None) -> int:
    """The disk behind `fd` is new and durable: it gets its name back, and its new descriptor. Raises `OSError`.

    Returns its ctime, as `ctime_of` tells.
    """
    folder, disk = destination.folder_fd, destination.disk_name
    prepare_descriptor(destination, descriptor, 0o600)
    ctime = 0
    if exists(destination, disk + HIDDEN_SUFFIX):
        with leased(fd) as lone:
            # With a descriptor its rename, which follows, makes this one durable, too.
            durable.move(disk + HIDDEN_SUFFIX, disk, durable=destination.raw, source_dir_fd=folder, to_dir_fd=folder)
            ctime = ctime_of(fd, lone)
    show_descriptor(destination, replace=False)
    return ctime


def apply(destination: Destination, disk: int, redo: RedoFile, side: Side) -> None:
    """Write one side of every change to the open disk, and make it durable.

    Each block is checked once more before it is written: `TryAgainLater` for a damaged redo file. Raises `OSError`.
    """
    footer = redo.footer
    _resize(disk, max(footer.size_before, footer.size_after), thick=footer.thick)
    # Data first, into blocks that are allocated: what is punched may be somebody else's a moment later.
    for offset, length in list(_written(destination, disk, redo, side)):
        zero_range(disk, offset, length, thick=footer.thick)
    _resize(disk, footer.size(side), thick=footer.thick)
    durable.sync_file(disk)


def apply_or_take_back(
    destination: Destination, disk: int, redo: RedoFile, *, check: Callable[[], None], taken_back: Callable[[], None]
) -> None:
    """Bring the disk to its new state and `check` it; if that cannot be done, back to the old one. Raises what stopped it.

    After an error the disk is as it was before and has its names again; or, if even that failed, it stays hidden, and the error
    is a `TryAgainLater` that says how to get out. `taken_back` is called when its bytes are old again, and when its name is back,
    too: its times are other ones by then.
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
    """Whatever stops us here, even what a new restore would call final, is tried again: the disk is hidden until this is done."""
    try:
        yield
    except (OSError, DestinationError) as error:
        why = error.message if isinstance(error, DestinationError) else str(error)
        raise TryAgainLater(
            f"{where}: a change in place was interrupted and cannot go on: {printable(why)}; the disk is hidden until it is done",
            remedy="Mend the cause. The next attempt goes on; or type 'phd recover DISK', or with --back to take the change back.",
        ) from error


def is_thick(facts: os.stat_result) -> bool:
    """Whether a disk has all of its blocks allocated; it stays as it is."""
    return facts.st_blocks * 512 >= facts.st_size


def exists(destination: Destination, name: str) -> bool:
    """Whether there is something under this name in the folder."""
    try:
        os.stat(name, dir_fd=destination.folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _written(destination: Destination, disk: int, redo: RedoFile, side: Side) -> Iterator[tuple[int, int]]:
    """Writes the blocks that hold data; yields (offset, length) of the runs that must become zero."""
    start = end = 0
    for change in redo.changes():
        if not change.is_zero(side):
            durable.write_all_at(disk, _checked(destination, redo, change, side), change.offset)
            continue
        if change.offset != end:
            if end > start:
                yield start, end - start
            start = change.offset
        end = change.offset + change.length(side)
    if end > start:
        yield start, end - start


def _checked(destination: Destination, redo: RedoFile, change: Change, side: Side) -> bytes:
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
    os.ftruncate(disk, size)
    if thick and size > before:
        zero_range(disk, before, size - before, thick=True)
