"""The end of the way: a final verify, then the job goes into the queue or runs here, then the VMX.

What runs is what `phd submit` and `phd restore` run. A Full, and a disk outside the datastores, cannot be queued.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.console.check_backup import Checked
from phd_daemon.console.choose_full import FullChoice
from phd_daemon.console.choose_place import Chosen
from phd_daemon.console.face import Face, Page, Stop
from phd_daemon.console.menus import queue_state
from phd_daemon.console.session import Session
from phd_daemon.host.datastores import readable_record
from phd_daemon.host.process import forbid_core_dumps, tune_malloc
from phd_daemon.operations.installation import receipts_folder
from phd_daemon.operations.submit import submit
from phd_daemon.show.live import FullLine, Line, at_the_end, delta_line, done_line, header_block
from phd_daemon.spool.control_file import ControlFile
from restore_core.errors import Stopped
from restore_core.naming import printable
from restore_core.restore.extras import restore_vmx
from restore_core.restore.full import restore_full
from restore_core.restore.request import PlanSummary, Progress, RestoreOutcome, RestoreRequest, VmxChoice
from restore_core.restore.run import restore_delta

_REDRAW_EVERY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that was chosen."""

    backup: Checked
    full: FullChoice
    place: Chosen


def start(order: Order, face: Face, session: Session) -> bool:
    """Ask for the last time, and do it. False if the person went back and nothing was begun."""
    request = _request(order, session)
    lines = header_block(request, session.targets.specs, is_full=order.backup.is_full)[2:-2]
    lines += _of_the_backup(order)
    if order.place.overwrite:
        lines.append(" The disk that lies there is refreshed or replaced.")
    while face.confirm("Start this restore?", lines, default=True):
        while (queued := _ask_for_queue(order, face, session)) is not None:
            if not queued:
                _restore_here(order, request, face, session)
                return True
            if _submit(order, face, session):
                return True
    return False


def _request(order: Order, session: Session) -> RestoreRequest:
    config = session.config
    return RestoreRequest(
        delta=order.backup.entry.ref,
        destination=order.place.path,
        full=order.full.ref,
        overwrite=order.place.overwrite,
        mode=config.datastores.mode,
        records=receipts_folder(config),
        datastores=readable_record(config),
        catalog=config.catalog_folder,
        catalog_max_age=config.index.max_age,
    )


def _of_the_backup(order: Order) -> list[str]:
    """What the header says of the disk, and the Full if it was not left to the restore."""
    backup = order.backup
    full = [f" FULL: {order.full.ref}"] if order.full.ref else []
    if backup.header is not None:
        return [f" DISK: {backup.header.describe()}", *full]
    return [f" DISK: {backup.disk_size} bytes"] if backup.disk_size is not None else []


def _ask_for_queue(order: Order, face: Face, session: Session) -> bool | None:
    """Whether it goes into the queue; None to go back."""
    if order.backup.is_full or not order.place.on_datastore:
        why = "A Full cannot be queued" if order.backup.is_full else "A disk outside the datastores cannot be queued"
        lines = [f"{why}: it is restored in the foreground.", "Do not close this terminal while it runs."]
        return False if face.confirm("Restore it now, in the foreground?", lines, default=True) else None
    waits = queue_state(session)
    lines = [*filter(None, [waits]), "No restores it now, in the foreground: do not close this terminal while it runs then."]
    return face.confirm("Submit this restore job to the background restore queue?", lines, default=not waits)


def _submit(order: Order, face: Face, session: Session) -> bool:
    vmx = VmxChoice.NONE
    if order.backup.has_vmx:
        folder = printable(str(order.place.path.parent))
        wanted = face.confirm("Restore the VMX file also, unedited?", [f"It is put beside the disk, in {folder}."], default=False)
        if wanted is None:
            return False
        vmx = VmxChoice.AS_IS if wanted else VmxChoice.NONE
    place, ref = order.place, order.backup.entry.ref
    control = ControlFile(delta=ref, restore_to=place.path, full=order.full.ref, overwrite=place.overwrite, vmx=vmx)
    (stem,) = submit(session.config, [control])
    lines = [f"{printable(stem)}: waiting, {ref}", f"to {printable(str(place.path))}", *filter(None, [queue_state(session)])]
    face.show(
        Page(title="Submitted to the restore queue", lines=[*lines, "Backup Restore Status in the main menu shows how far it is."])
    )
    return True


def _restore_here(order: Order, request: RestoreRequest, face: Face, session: Session) -> None:
    """In the foreground, until it is done, is stopped with ^C, or the terminal goes away: nothing half-made stays behind."""
    forbid_core_dumps()
    tune_malloc()
    is_full = order.backup.is_full

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
    if order.backup.has_vmx:
        offer_vmx(order.backup, order.place.path.parent, face, session)


def offer_vmx(backup: Checked, folder: Path, face: Face, session: Session) -> None:
    """Seed: after a Delta was restored you are asked about the VMX. It is the copy from the backup."""
    lines = [
        f"It is written to {printable(str(folder))}, as it was when the backup was made.",
        "Its paths and settings are not changed.",
    ]
    if face.confirm("Restore the VMX file also?", lines, default=False):
        written = restore_vmx(backup.entry.ref, session.targets, folder, readable_record(session.config))
        text = f"{printable(str(written))}: check its paths and settings before you use it"
        face.show(Page(title="VMX restored", lines=[text]))


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
