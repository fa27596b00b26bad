"""A destination that is open and held: what every command that writes a disk, its descriptor or its VMX begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from restore_core.disk.destination import Destination, open_destination
from restore_core.disk.hold import Hold, take_hold
from restore_core.disk.known_datastores import DatastoreRecord


@contextlib.contextmanager
def held_destination(
    path: Path, *, roots: tuple[Path, ...] | None, make_folders: bool, datastores: DatastoreRecord | None = None
) -> Iterator[tuple[Destination, Hold]]:
    """The destination, ours alone until the block ends. Raises as `open_destination` and `take_hold`.

    The lock file stays if anything that a restore left lies beside the disk then.
    """
    with (
        open_destination(path, roots=roots, make_folders=make_folders, datastores=datastores) as destination,
        take_hold(destination.folder_fd, destination.disk_name, destination.where) as hold,
    ):
        try:
            yield destination, hold
        finally:
            hold.leave = True
            with contextlib.suppress(OSError):
                hold.leave = bool(destination.names_of_ours())
