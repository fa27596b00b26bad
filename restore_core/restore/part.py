"""The part file of a destination that is held, from the first refusal to the final name."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from restore_core import durable
from restore_core.disk.allocation import take_part
from restore_core.disk.destination import Destination
from restore_core.errors import DestinationMoved, TryAgainLater, from_os_error
from restore_core.naming import printable
from restore_core.restore.redo import pending
from restore_core.restore.request import KeepPart


@contextmanager
def held_part(destination: Destination, *, mode: int, keep_part: KeepPart) -> Iterator[int]:
    """The part file, as an earlier attempt may have left it. Afterwards it is gone: published, or removed.

    Only after an error for which `keep_part` says so it stays, if there is anything in it. An `OSError` leaves as a typed error.
    """
    fd = take_part(destination, mode=mode, keep=True)
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
            raise from_os_error(error, doing="writing the disk", where=printable(str(destination.path))) from error
        raise
    else:
        _remove(destination, fd)
    finally:
        os.close(fd)


def _remove(destination: Destination, fd: int) -> None:
    """Remove it if it is still ours: once it was renamed, the next restore may have made one of that name."""
    with contextlib.suppress(OSError):
        there = os.stat(destination.part_name, dir_fd=destination.folder_fd, follow_symlinks=False)
        if os.path.samestat(there, os.fstat(fd)):
            remove_small_parts(destination)
            durable.remove(destination.part_name, dir_fd=destination.folder_fd, durable=False)


def remove_empty_parts(destination: Destination) -> None:
    """Remove what no attempt can go on with: halves of descriptor and VMX, and a part file with nothing in it. For the holder."""
    remove_small_parts(destination)
    with contextlib.suppress(OSError):
        facts = os.stat(destination.part_name, dir_fd=destination.folder_fd, follow_symlinks=False)
        if stat.S_ISREG(facts.st_mode) and facts.st_blocks == 0:
            durable.remove(destination.part_name, dir_fd=destination.folder_fd, durable=False)


def remove_small_parts(destination: Destination) -> None:
    """Halves of descriptor and VMX that a crash left; for who holds the disk. They harm nobody: an error ends here."""
    if pending(destination):
        return  # the descriptor of a disk that is hidden: perhaps there is no room to write another
    for name in destination.small_parts:
        with contextlib.suppress(OSError):
            durable.remove(name, dir_fd=destination.folder_fd, durable=False)
