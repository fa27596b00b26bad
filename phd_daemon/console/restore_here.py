"""Restores a disk in the foreground while a face shows how far it is, then offers the VMX. `phd restore` does the same."""

from __future__ import annotations

from pathlib import Path

from phd_daemon.console.face import Face, Page, WorkControl
from phd_daemon.console.session import Session
from phd_daemon.host.datastores import readable_record
from phd_daemon.operations.restore import BackupFacts, restore
from phd_daemon.show.live import FullLine, LiveLine, LiveReport, done_line, header_block
from phd_daemon.show.progress import delta_line
from restore_core.catalog import CatalogEntry
from restore_core.errors import Stopped
from restore_core.naming import printable
from restore_core.restore.extras import restore_vmx
from restore_core.restore.request import RestoreOutcome, RestoreRequest

_REDRAW_EVERY = 0.1


def restore_here(request: RestoreRequest, backup: BackupFacts, face: Face, session: Session) -> None:
    """Returns when it is done; raises `Stopped` after ^C, or when the terminal went away. Nothing half-made stays behind then."""
    is_full = backup.is_full

    def work(control: WorkControl) -> RestoreOutcome:
        def go_on() -> None:
            if control.asked or session.leaving.is_set():
                raise Stopped("stopped: nothing was left behind")

        told = LiveReport(FullLine() if is_full else delta_line, LiveLine(control.note, control.report, _REDRAW_EVERY))
        try:
            return restore(request, session.targets, is_full=is_full, reporter=told, stop=go_on)
        finally:
            told.close()

    title = header_block(request, session.targets.specs, is_full=is_full)[-1]
    with session.working():
        outcome = face.watch(title, work)
    face.show(Page(title="Restored", lines=[done_line(outcome, is_full=is_full)]))
    if backup.has_vmx:
        offer_vmx(backup, request.destination.parent, face, session)


def offer_vmx(backup: BackupFacts, folder: Path, face: Face, session: Session) -> None:
    """Asks about the VMX after a Delta was restored, as Seed did. It is the copy from the backup."""
    lines = [
        f"It is written to {printable(str(folder))}, as it was when the backup was made.",
        "Its paths and settings are not changed.",
    ]
    if face.confirm("Restore the VMX file also?", lines, default=False):
        put_vmx(backup.entry, folder, face, session)


def put_vmx(entry: CatalogEntry, folder: Path, face: Face, session: Session) -> None:
    """Writes the VMX of a backup into a folder, never over a file that is there."""
    written = restore_vmx(entry.ref, session.targets, folder, readable_record(session.config))
    face.show(Page(title="VMX restored", lines=[f"{printable(str(written))}: check its paths and settings before you use it"]))
