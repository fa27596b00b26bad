"""Ends a session that stopped in `pivoting`, with its QEMU gone: decides for each disk by itself where the guest's bytes are.

the overlay is as its stamps say, in the same boot        the disk: either the guest went over to it, or both are equal
only the overlay was written since                        the overlay: the guest was resumed before it went over
both were written, or the machine was started anew        compared: equal, or a person says which one to keep
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence

from phd_daemon.operations.instant.qemu_img import same_as_overlay
from phd_daemon.operations.instant.session_disks import HeldDisk, lone_overlay
from phd_daemon.operations.instant.session_live import short_stamps
from phd_daemon.operations.instant.session_proof import path_of_hidden
from restore_core.disk.alone import Alone, alone, in_use_error
from restore_core.disk.destination import HIDDEN_SUFFIX
from restore_core.disk.session_record import InstantSession
from restore_core.errors import Diverged
from restore_core.naming import printable
from restore_core.restore.receipt import boot_id


class Keep(enum.Enum):
    """Where the guest's bytes are, as a person says who cannot be spared the question."""

    DISK = "disk"
    OVERLAY = "overlay"


def in_overlays(session: InstantSession, held: Sequence[HeldDisk], keep: Keep | None) -> list[HeldDisk]:
    """Returns the disks whose overlays hold what the guest wrote last; of the others the disk does. Nobody has any of them open.

    Raises `DestinationInUse` while QEMU lives, `Diverged` where only a person can tell.
    """
    return [one for one in held if _in_overlay(session, one, keep)]


def _in_overlay(session: InstantSession, held: HeldDisk, keep: Keep | None) -> bool:
    destination, hidden = held.destination, held.destination.disk_name + HIDDEN_SUFFIX
    name = next((one for one in (held.finishing_name, held.overlay_name) if destination.has(one)), None)
    if name is None:
        return False  # it was removed by hand; the disk was equal to it, and durable
    fd = destination.open(hidden)
    try:
        if alone(fd) is Alone.NO:
            remedy = "Give --qmp SOCKET of its QEMU, or switch the guest off."
            raise in_use_error(f"{destination.where} ({remedy})", "a QEMU has the disk open")
        with lone_overlay(held, name) as overlay:
            overlay_same = short_stamps(os.fstat(overlay)) == held.disk.overlay_stamps
        disk_same = short_stamps(os.fstat(fd)) == held.disk.disk_stamps
    finally:
        os.close(fd)
    if session.boot == boot_id() and (overlay_same or disk_same):
        return not overlay_same
    if same_as_overlay(held.path(name), path_of_hidden(held)):
        return False
    if keep is None:
        raise Diverged(
            f"{destination.where}: the finish was interrupted while the guest went over to its disk, and then both were written: "
            f"{printable(hidden)} and {printable(name)}",
            remedy="Copy both, then say where the guest's last work is: phd instant finish DISK --keep disk, or --keep overlay.",
        )
    return keep is Keep.OVERLAY
