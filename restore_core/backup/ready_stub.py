"""The descriptor that a restored disk will have, made at backup time: a shell can fill in a name, but not write the rest."""

from __future__ import annotations

from dataclasses import replace

from restore_core.archive.delta_writer import DiskFacts
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import BadData, DestinationError

STAND_IN = "NAME-flat.vmdk"
"""What the extent line names until the disk has a name."""


def with_ready_stub(disk: DiskFacts) -> DiskFacts:
    """`disk` with its `stub`. Without one where no descriptor is possible: an odd size, or an original that is none."""
    original = disk.descriptor.decode("utf-8", "surrogateescape") if disk.descriptor is not None else None
    try:
        text = render_descriptor(flat_name=STAND_IN, size=disk.disk_size, thin=False, original=original)
    except (BadData, DestinationError):
        return disk
    return replace(disk, stub=text.encode("utf-8", "surrogateescape"))
