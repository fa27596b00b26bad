"""What a restore holds while it works: its destination, which is its alone, and the part file, which becomes the disk."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from restore_core.disk.allocation import open_part
from restore_core.disk.destination import REDO_SUFFIX, Destination, open_destination
from restore_core.disk.hold import Hold, take_hold
from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.disk.session_guard import refuse_in_session
from restore_core.errors import DestinationMoved, TryAgainLater, from_os_error
from restore_core.naming import printable
from restore_core.restore.request import KeepPart


@contextlib.contextmanager
def held_destination(
    path: Path,
    *,
    roots: tuple[Path, ...] | None,
    make_folders: bool,
    datastores: DatastoreRecord | None = None,
    may: Callable[[Destination], None] = refuse_in_session,
) -> Iterator[tuple[Destination, Hold]]:
    """Opens a destination and holds it until the block ends: every command that writes a disk, its descriptor or its VMX begins so.

    `may` is asked under the hold and raises for a disk that must be left alone: one that is in an instant session. The lock file
    stays if a file that a restore left is beside the disk at the end. Raises as `open_destination`, `take_hold` and `may`.
    """
    with (
        open_destination(path, roots=roots, make_folders=make_folders, datastores=datastores) as destination,
        take_hold(destination.folder_fd, destination.disk_name, destination.where) as hold,
    ):
        try:
            may(destination)
            yield destination, hold
        finally:
            hold.leave = True
            with contextlib.suppress(OSError):
                hold.leave = bool(destination.names_of_ours())


@contextlib.contextmanager
def held_part(destination: Destination, *, mode: int, keep_part: KeepPart) -> Iterator[int]:
    """Opens the part file, as an earlier attempt may have left it. Afterwards it is gone: published, or deleted.

    Only after an error for which `keep_part` says so it stays, if there is anything in it. Turns an `OSError` into a typed error.
    """
    fd = open_part(destination, mode=mode, keep=True)
    try:
        remove_small_parts(destination)
        yield fd
    except BaseException as error:
        moved = isinstance(error, DestinationMoved)  # the next attempt will not find it there
        if not keep_part(error) or moved or os.fstat(fd).st_blocks == 0:
            _remove(destination, fd)
        if isinstance(error, FileNotFoundError):
            raise TryAgainLater(
                f"{destination.where}: somebody removed {printable(str(error.filename or 'a file'))} while the disk was written",
                remedy="Find out who removes files there; a queued job is tried again.",
            ) from error
        if isinstance(error, OSError):
            raise from_os_error(error, doing="writing the disk", where=destination.where) from error
        raise
    else:
        _remove(destination, fd)
    finally:
        os.close(fd)


def _remove(destination: Destination, fd: int) -> None:
    """Delete it if it is still ours: once it was renamed, the next restore may have made one of that name."""
    with contextlib.suppress(OSError):
        there = os.stat(destination.part_name, dir_fd=destination.folder_fd, follow_symlinks=False)
        if os.path.samestat(there, os.fstat(fd)):
            remove_small_parts(destination)
            destination.remove(destination.part_name)


def remove_empty_parts(destination: Destination) -> None:
    """Delete what no attempt can use: unfinished descriptors and VMX files, and an empty part file. For the holder."""
    remove_small_parts(destination)
    with contextlib.suppress(OSError):
        facts = os.stat(destination.part_name, dir_fd=destination.folder_fd, follow_symlinks=False)
        if stat.S_ISREG(facts.st_mode) and facts.st_blocks == 0:
            destination.remove(destination.part_name)


def remove_small_parts(destination: Destination) -> None:
    """Delete unfinished descriptors and VMX files that a crash left. For the holder. They harm nobody: an `OSError` ends here."""
    if destination.has(destination.disk_name + REDO_SUFFIX):
        return  # it may be the descriptor of a hidden disk: perhaps there is no space to write another
    for name in destination.small_parts:
        with contextlib.suppress(OSError):
            destination.remove(name)
