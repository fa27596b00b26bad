"""Restore through the console: backup > header > Full > place > start, one step back at a time."""

from __future__ import annotations

from phd_daemon.console.check_backup import Checked, check, summary
from phd_daemon.console.choose_backup import browse_machines, browse_vmdks
from phd_daemon.console.choose_full import FullChoice, choose_full, fulls_of
from phd_daemon.console.choose_place import Chosen, choose_place
from phd_daemon.console.face import Face
from phd_daemon.console.session import Session
from phd_daemon.console.start_restore import Order, start
from restore_core.catalog import CatalogEntry
from restore_core.restore.fulls.candidates import Candidate


def by_vm(face: Face, session: Session) -> None:
    """Select by Virtual Machine name."""
    browse_machines(face, session, restore_backup)


def by_vmdk(face: Face, session: Session) -> None:
    """Select by VMDK name."""
    browse_vmdks(face, session, restore_backup)


def restore_backup(entry: CatalogEntry, face: Face, session: Session) -> None:
    """One backup, from its summary to the start of the restore."""
    known: tuple[Checked, list[Candidate]] | None = None
    while face.confirm("Restore this backup?", summary(entry, session.targets), default=True):
        known = known or _known(entry, face, session)
        if known is not None and _from_the_full_on(*known, face, session):
            return


def _known(entry: CatalogEntry, face: Face, session: Session) -> tuple[Checked, list[Candidate]] | None:
    """What its target says of the backup, and its Fulls; None when the person did not wait."""
    backup = check(entry, face, session)
    fulls = fulls_of(backup, face, session) if backup is not None else None
    return None if backup is None or fulls is None else (backup, fulls)


def _from_the_full_on(backup: Checked, fulls: list[Candidate], face: Face, session: Session) -> bool:
    """Whether a restore was begun; False when the person went back before that."""
    if not fulls:
        return _place_and_start(backup, FullChoice(ref=None), face, session)
    while (full := choose_full(fulls, face)) is not None:
        if _place_and_start(backup, full, face, session):
            return True
    return False


def _place_and_start(backup: Checked, full: FullChoice, face: Face, session: Session) -> bool:
    """The same, with the Full that was chosen."""

    def then(place: Chosen) -> bool:
        return start(Order(backup=backup, full=full, place=place), face, session)

    return choose_place(backup, face, session, then)
