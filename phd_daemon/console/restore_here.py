"""Restores a disk in the foreground while a face shows how far it is, then offers the VMX. `phd restore` does the same."""

from __future__ import annotations

import time
from pathlib import Path

from phd_daemon.console.face import Face, Page, Stop
from phd_daemon.console.session import Session
from phd_daemon.host.datastores import readable_record
from phd_daemon.host.process import forbid_core_dumps, tune_malloc
from phd_daemon.operations.chosen_backup import Checked
from phd_daemon.show.live import FullLine, Line, at_the_end, delta_line, done_line, header_block
from restore_core.catalog import CatalogEntry
from restore_core.errors import Stopped
from restore_core.naming import printable
from restore_core.restore.extras import restore_vmx
from restore_core.restore.full import restore_full
from restore_core.restore.request import PlanSummary, Progress, RestoreOutcome, RestoreRequest
from restore_core.restore.run import restore_delta

_REDRAW_EVERY = 0.1


def restore_here(request: RestoreRequest, backup: Checked, face: Face, session: Session) -> None:
    """Returns when it is done; raises `Stopped` after ^C, or when the terminal went away. Nothing half-made stays behind then."""
    forbid_core_dumps()
    tune_malloc()
    is_full = backup.is_full

    def work(stop: Stop) -> RestoreOutcome:
        def go_on() -> None:
            if stop.asked or session.leaving.is_set():
                raise Stopped("stopped: nothing was left behind")

        told = _Told(stop, FullLine() if is_full else delta_line)
        try:
            return (restore_full if is_full else restore_delta)(request, session.targets, reporter=told, stop=go_on)
        finally:
            told.close()

    title = header_block(request, session.targets.specs, is_full=is_full)[-1]
    with session.working():
        outcome = face.watch(title, work)
    face.show(Page(title="Restored", lines=[done_line(outcome, is_full=is_full)]))
    if backup.has_vmx:
        offer_vmx(backup, request.destination.parent, face, session)


def offer_vmx(backup: Checked, folder: Path, face: Face, session: Session) -> None:
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


class _Told:
    """The `Reporter` of a restore that a face watches."""

    def __init__(self, stop: Stop, line: Line) -> None:
        self._stop, self._line = stop, line
        self._at = 0.0
        self._last: Progress | None = None

    def note(self, text: str) -> None:
        """One line of what was decided."""
        self._stop.note(text)

    def planned(self, plan: PlanSummary) -> None:
        """The plan."""
        self._stop.note(f"Planned: {plan.describe()}")

    def progress(self, progress: Progress) -> None:
        """How far it is; called far more often than anybody can read."""
        now = time.monotonic()
        self._last = progress
        if now - self._at >= _REDRAW_EVERY:
            self._at = now
            self._stop.report(self._line(progress, now))

    def close(self) -> None:
        """The last line, which stays."""
        if self._last is not None:
            self._stop.report(self._line(at_the_end(self._last), time.monotonic()))
