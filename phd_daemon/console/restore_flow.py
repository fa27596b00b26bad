"""Restore through the console: backup > header > Full > place > start, one step back at a time."""

from __future__ import annotations

from phd_daemon.console.check_backup import Checked, check, summary
from phd_daemon.console.choose_backup import browse_machines, browse_vmdks
from phd_daemon.console.choose_full import FullChoice, choose_full, fulls_of
from phd_daemon.console.choose_place import choose_place
from phd_daemon.console.desk import Desk
from phd_daemon.console.face import Face
from phd_daemon.console.start_restore import Order, start
from restore_core.catalog import CatalogEntry


def by_vm(face: Face, desk: Desk) -> None:
    """Select by Virtual Machine name."""
    browse_machines(face, desk, restore_backup)


def by_vmdk(face: Face, desk: Desk) -> None:
    """Select by VMDK name."""
    browse_vmdks(face, desk, restore_backup)


def restore_backup(entry: CatalogEntry, face: Face, desk: Desk) -> None:
    """One backup, from its summary to the start of the restore."""
    if not face.confirm("Restore this backup?", summary(entry, desk.targets), default=True):
        return
    backup = check(entry, face, desk)
    fulls = fulls_of(backup, face, desk)
    if not fulls:
        _place_and_start(backup, FullChoice(ref=None), face, desk)
        return
    while (full := choose_full(fulls, face)) is not None:
        if _place_and_start(backup, full, face, desk):
            return


def _place_and_start(backup: Checked, full: FullChoice, face: Face, desk: Desk) -> bool:
    """Whether a restore was begun; False when the person went back before that."""
    while (place := choose_place(backup, face, desk)) is not None:
        if start(Order(backup=backup, full=full, place=place), face, desk):
            return True
    return False
