"""Whose part file it is, once the disk has its final name."""

from __future__ import annotations

import os

from restore_core import durable
from restore_core.disk.destination import open_destination
from restore_core.restore.part import held_part
from tests.lab import Lab


def test_the_part_file_of_the_next_restore_is_not_removed(lab: Lab) -> None:
    """It may be taken as soon as ours was renamed. Were it unlinked, the next restore could publish a third one's."""
    with open_destination(lab.folder / "out" / "disk.img", roots=None, make_folders=True) as destination:
        with held_part(destination, mode=0o600, keep_part=lambda _error: False):
            os.rename(
                destination.part_name, destination.disk_name, src_dir_fd=destination.folder_fd, dst_dir_fd=destination.folder_fd
            )
            other = durable.take_part(destination.part_name, dir_fd=destination.folder_fd)
        os.close(other)
    assert lab.leftovers() == ["disk.img", "disk.img.phd-new"]


def test_our_own_is(lab: Lab) -> None:
    with (
        open_destination(lab.folder / "out" / "disk.img", roots=None, make_folders=True) as destination,
        held_part(destination, mode=0o600, keep_part=lambda _error: False),
    ):
        assert lab.leftovers() == ["disk.img.phd-new"]
    assert lab.leftovers() == []
