"""Restore through the console: backup, header, Full, place, start. Each question can be left, one step back.

A restore goes into the queue, or runs here in the foreground while a face shows how far it is. `phd restore` does the same.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from phd_daemon.console.choose_backup import browse_machines, browse_vmdks, read_header, summary
from phd_daemon.console.choose_place import PlaceSteps, ask_for_vmx
from phd_daemon.console.face import Choice, Face, Page, Row, WorkControl
from phd_daemon.console.menus import queue_state, waited
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.console.whole_vm_flow import restore_vm
from phd_daemon.operations.restore import BackupFacts, fulls_of, request_for, restore, vmx_into
from phd_daemon.operations.submit import submit
from phd_daemon.show import output
from phd_daemon.show.live import FullLine, LiveLine, LiveReport, done_line, header_block
from phd_daemon.show.progress import delta_line
from phd_daemon.spool.control_file import ControlFile
from restore_core.catalog import CatalogEntry
from restore_core.errors import Stopped
from restore_core.naming import printable, time_text
from restore_core.restore.fulls.candidates import Candidate
from restore_core.restore.request import RestoreOptions, RestoreOutcome, RestoreRequest, VmxChoice
from restore_core.targets.base import ArchiveRef

_REDRAW_EVERY = 0.1
_FULL_COLUMNS = ("", "TARGET", "SIZE", "DATE", "FULL", "WHY")
_FULL_HELP = """\
A Delta holds what changed since its Full. The one with * was compared with the map in the Delta: its id, its size and some of its
blocks. Every block is checked again when it is restored. With several of them the first is taken, and another when that breaks."""


def by_vm(face: Face, session: Session) -> None:
    """Select by Virtual Machine name."""
    browse_machines(face, session, restore_backup, whole=restore_vm)


def by_vmdk(face: Face, session: Session) -> None:
    """Select by VMDK name."""
    browse_vmdks(face, session, restore_backup)


def restore_backup(entry: CatalogEntry, face: Face, session: Session) -> None:
    """One backup, from its summary to the start of the restore."""
    flow = _Restore(entry, face, session)
    steps = [flow.confirm_backup, flow.look_at_backup, flow.choose_full, *flow.place_steps()]
    if take([*steps, flow.confirm_start, flow.choose_queue, flow.choose_vmx]):
        flow.begin()


class _Restore(PlaceSteps):
    """The steps, and what was answered in them."""

    fulls: list[Candidate]
    full: ArchiveRef | None = None  # None leaves it to the restore, which goes on with another copy if one breaks
    queued: bool
    vmx = VmxChoice.NONE

    def __init__(self, entry: CatalogEntry, face: Face, session: Session) -> None:
        super().__init__(face, session)
        self._entry = entry
        self._known: tuple[BackupFacts, list[Candidate]] | None = None

    def confirm_backup(self) -> Went:
        """The summary of the backup that was chosen."""
        return on_if(self.face.confirm("Restore this backup?", summary(self._entry, self.session.targets), default=True))

    def look_at_backup(self) -> Went:
        """What its target says of the backup, and its Fulls; asks nothing, and looks once."""
        if self._known is None:
            backup = read_header(self._entry, self.face, self.session)
            fulls = self._fulls_of(backup) if backup is not None else None
            if backup is None or fulls is None:
                return Went.BACK
            self._known = backup, fulls
        self.backup, self.fulls = self._known
        return Went.PAST

    def _fulls_of(self, backup: BackupFacts) -> list[Candidate] | None:
        if not backup.needs_full:
            return []
        message = "Looking for the Full of this Delta, and proving it"
        work = partial(fulls_of, backup, self.session.config, self.session.targets)
        return waited(message, work, self.face, self.session)

    def choose_full(self) -> Went:
        """One of the Fulls; the first proven one is proposed. A Full needs none."""
        if not self.fulls:
            return Went.PAST
        rows = [_full_row(one, first=index == 0) for index, one in enumerate(self.fulls)]
        proven = self.fulls[0].proven
        intro: tuple[str, ...] = ()
        if not proven:
            intro = ("No Full of this Delta is there now. A job in the queue is tried again while a target is away.",)
            rows.append(Row(cells=("None is proven: look again when the restore begins",), value=(None,), key="a"))
        start = 0 if proven else None
        chosen = self.face.choose(
            Choice(title="The Full for this Delta", rows=rows, columns=_FULL_COLUMNS, intro=intro, help=_FULL_HELP, start=start)
        )
        self.full = chosen[0] if chosen else None
        return on_if(chosen)

    def confirm_start(self) -> Went:
        """Everything that was chosen, for the last time."""
        is_full, request = self.backup.is_full, self.request()
        lines = header_block(request, self.session.targets.specs, is_full=is_full)[2:-2]
        if self.backup.header is not None:
            lines.append(f" DISK: {self.backup.header.describe()}")
            lines += [f" NOTE: {self.backup.header.of_a_part}"] if self.backup.header.of_a_part else []
            lines += [f" FULL: {request.full}"] if request.full else []
            lines += [f" Note: {self.backup.header.of_a_part}"] if self.backup.header.of_a_part else []
        elif self.backup.disk_size is not None:
            lines.append(f" DISK: {self.backup.disk_size} bytes")
        if self.overwrite:
            lines.append(" The disk that lies there is refreshed or replaced.")
        return on_if(self.face.confirm("Start this restore?", lines, default=True))

    def choose_queue(self) -> Went:
        """Whether it goes into the queue or runs here. A Full, and a disk outside the datastores, cannot be queued."""
        if self.backup.is_full or not self.on_datastore:
            self.queued = False
            why = "A Full cannot be queued" if self.backup.is_full else "A disk outside the datastores cannot be queued"
            lines = [f"{why}: it is restored in the foreground.", "Do not close this terminal while it runs."]
            return on_if(self.face.confirm("Restore it now, in the foreground?", lines, default=True))
        waits = queue_state(self.session)
        lines = [*filter(None, [waits]), "No restores it now, in the foreground: do not close this terminal while it runs then."]
        queued = self.face.confirm("Submit this restore job to the background restore queue?", lines, default=not waits)
        self.queued = bool(queued)
        return Went.BACK if queued is None else Went.ON

    def choose_vmx(self) -> Went:
        """Asked before a job is queued; a restore that runs here asks when it is done."""
        if not (self.queued and self.backup.has_vmx):
            return Went.PAST
        self.vmx, went = ask_for_vmx(self.face, f"the disk, in {printable(str(self.path.parent))}")
        return went

    def request(self) -> RestoreRequest:
        """What was chosen, as the restore takes it."""
        options = RestoreOptions(overwrite=self.overwrite)
        return request_for(self.session.config, delta=self._entry.ref, destination=self.path, full=self.full, options=options)

    def begin(self) -> None:
        """Submits the job, or restores here."""
        if not self.queued:
            restore_here(self.request(), self.backup, self.face, self.session)
            return
        ref, path, config = self._entry.ref, self.path, self.session.config
        options = RestoreOptions(overwrite=self.overwrite, vmx=self.vmx)
        control = ControlFile(delta=ref, restore_to=path, full=self.full, options=options)
        (job,) = submit(config, [control])
        lines = [f"{printable(job)}: waiting, {ref}", f"to {printable(str(path))}", *filter(None, [queue_state(self.session)])]
        lines.append("Backup Restore Status in the main menu shows how far it is.")
        self.face.show(Page(title="Submitted to the restore queue", lines=lines))


def _full_row(one: Candidate, *, first: bool) -> Row[tuple[ArchiveRef | None]]:
    date = time_text(one.time) if one.time else "-"
    mark, why = ("*", one.why) if one.proven else ("", "")
    # With its folder: the Fulls of clones, and those of a VM that was renamed, may have one name.
    cells = (mark, one.ref.target, output.size(one.size), date, printable(one.ref.path), why)
    left = first and one.proven  # which Full is taken is left to the restore, which goes on with another if this one breaks
    return Row(cells=cells, value=(None if left else one.ref,), refused="" if one.proven else one.why)


def restore_here(request: RestoreRequest, backup: BackupFacts, face: Face, session: Session) -> None:
    """Returns when it is done; raises `Stopped` after ^C, or when the terminal went away. Unfinished files are removed then."""
    is_full = backup.is_full

    def work(control: WorkControl) -> RestoreOutcome:
        def go_on() -> None:
            if control.asked or session.leaving.is_set():
                raise Stopped("stopped: nothing was left behind")

        told = LiveReport(FullLine() if is_full else delta_line, LiveLine(control.note, control.report, _REDRAW_EVERY))
        try:
            return restore(session.config, request, session.targets, is_full=is_full, reporter=told, stop=go_on)
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
    written = vmx_into(session.config, session.targets, entry.ref, folder)
    face.show(Page(title="VMX restored", lines=[f"{printable(str(written))}: check its paths and settings before you use it"]))
