"""Queues the restore of all disks of a VM out of one backup run, as `phd submit --vm` does: run, datastore, folder, start."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from phd_daemon.console.choose_backup import read_header
from phd_daemon.console.choose_place import FolderSteps, ask_for_vmx
from phd_daemon.console.face import Choice, Face, Page, Row
from phd_daemon.console.menus import queue_state, waited
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations import places
from phd_daemon.operations.backups import VmBackup, deltas_of_vm, runs_of_vm
from phd_daemon.operations.groups import Group
from phd_daemon.operations.submit import submit
from phd_daemon.operations.vm_disks import disks_at
from phd_daemon.show.output import counted
from phd_daemon.spool.control_file import ControlFile
from restore_core.naming import printable, restored_name, time_text
from restore_core.restore.request import RestoreOptions, VmxChoice

_HELP = """\
Disks of two points in time are no VM. Listed are the backup runs that hold every disk of this VM; where none does, all of them. The
same from a shell: phd submit --vm NAME --to FOLDER, with --at for an older run."""


def restore_vm(group: Group, face: Face, session: Session) -> None:
    """All disks of one VM, from the choice of the run to its jobs in the queue."""
    flow = _WholeVm(group, face, session)
    steps = [flow.choose_run, flow.look, *flow.folder_steps(), flow.confirm_overwriting, flow.confirm_start, flow.choose_vmx]
    if take(steps):
        flow.begin()


class _WholeVm(FolderSteps):
    """The steps, and what was answered in them."""

    any_folder = False
    run: VmBackup
    found: VmBackup  # the same, as the targets hold it now
    overwrite: frozenset[Path]
    vmx: VmxChoice

    def __init__(self, group: Group, face: Face, session: Session) -> None:
        super().__init__(face, session)
        self._group, self._folder = group, group.entries[0].folder

    def choose_run(self) -> Went:
        """One of the runs that can be taken; the newest is proposed."""
        look = disks_at(self.session.targets)
        work = partial(runs_of_vm, self._group.entries, vm=self._folder.vm, uuid=self._folder.uuid, disks_of=look)
        runs = waited("Reading which disks the VM had", work, self.face, self.session)
        if runs is None:
            return Went.BACK
        rows = [Row(cells=_cells(run), value=run) for run in runs]
        title = f"A backup run of {self._group.title}"
        run = self.face.choose(Choice(title=title, rows=rows, columns=("DATE (UTC)", "DISKS", "NAMES"), help=_HELP, start=0))
        if run is not None:
            self.run = run
        return on_if(run)

    def look(self) -> Went:
        """Lists the targets, so that nothing is decided on what is not known any more; reads a header, and the datastores."""
        folder, config, targets = self._folder, self.session.config, self.session.targets
        work = partial(deltas_of_vm, config, targets, vm=folder.vm, uuid=folder.uuid, at=self.run.entries[0].time)
        found = waited("Looking at the backup targets", work, self.face, self.session)
        backup = read_header(found.entries[0], self.face, self.session) if found is not None else None
        if found is None or backup is None:
            return Went.BACK
        look = partial(places.datastore_choices, config.datastores.roots)
        stores = waited("Looking at the datastores", look, self.face, self.session)
        self.found, self.backup, self.stores = found, backup, stores or []
        return Went.BACK if stores is None else Went.PAST

    def confirm_overwriting(self) -> Went:
        """Asked where some of the disks are there already; they are never overwritten without this."""
        self.overwrite = frozenset(filter(places.is_there, self._paths()))
        if not self.overwrite:
            return Went.PAST
        lines = [f"{printable(str(path))} is there already." for path in sorted(self.overwrite)]
        lines.append("It will be refreshed or replaced. What it holds now is lost then.")
        return on_if(self.face.confirm(f"Write over {counted(len(self.overwrite), 'disk')}?", lines, default=False))

    def confirm_start(self) -> Went:
        """Everything that was chosen, and what was not taken."""
        lines = [f"The backup of {time_text(self.found.entries[0].time)} UTC:"]
        for entry, path in zip(self.found.entries, self._paths(), strict=True):
            lines += [f"{entry.ref}", f"  to {printable(str(path))}"]
        lines += self.found.not_in_it
        for entry in self.run.newer:
            lines.append(f"Not taken, as it is not of all disks: the newer backup of {printable(entry.name.disk)}, {entry.ref}")
        lines += filter(None, [queue_state(self.session)])
        title = f"Submit {counted(len(self.found.entries), 'job')} to the background restore queue?"
        return on_if(self.face.confirm(title, lines, default=True))

    def choose_vmx(self) -> Went:
        """Whether the VMX is restored, too."""
        self.vmx = VmxChoice.NONE
        if not self.backup.has_vmx:
            return Went.PAST
        self.vmx, went = ask_for_vmx(self.face, f"the disks, in {printable(str(self.folder))}")
        return went

    def begin(self) -> None:
        """Submits one job for each disk, all of them or none."""
        wanted = list(zip(self.found.entries, self._paths(), strict=True))
        controls = [
            ControlFile(delta=entry.ref, restore_to=path, options=RestoreOptions(overwrite=path in self.overwrite, vmx=self.vmx))
            for entry, path in wanted
        ]
        jobs = submit(self.session.config, controls)
        lines = [
            f"{printable(job)}: waiting, {entry.ref} to {printable(str(path))}"
            for job, (entry, path) in zip(jobs, wanted, strict=True)
        ]
        lines += filter(None, [queue_state(self.session)])
        lines.append("Backup Restore Status in the main menu shows how far they are.")
        self.face.show(Page(title="Submitted to the restore queue", lines=lines))

    def _paths(self) -> list[Path]:
        return [self.folder / restored_name(entry.name.disk) for entry in self.found.entries]


def _cells(run: VmBackup) -> tuple[str, ...]:
    names = ", ".join(printable(entry.name.disk) for entry in run.entries)
    return time_text(run.entries[0].time), str(len(run.entries)), names
