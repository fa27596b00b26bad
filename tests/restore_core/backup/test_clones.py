"""Clones: VMs of different names whose VMX has the same UUID and the same disks. Their backups never mix."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from restore_core.archive.full_reader import FullReader
from restore_core.backup.run import BackupOptions, BackupReporter, BackupResult, backup
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import NotThisFull
from restore_core.targets.base import ListedFile
from restore_core.targets.gaps import Gap, GapKind
from restore_core.targets.local import LocalTarget
from tests.lab import BLOCK, NIGHT, UUID, Lab

VMX = f"""uuid.bios = "{UUID.replace("-", "").upper()}"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "CRM.vmdk"
"""


class Notes(BackupReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def clone(folder: Path, vm: str, data: bytes) -> Path:
    home = folder / "ds" / vm
    home.mkdir(parents=True)
    (home / "CRM-flat.vmdk").write_bytes(data)
    (home / "CRM.vmdk").write_text(render_descriptor(flat_name="CRM-flat.vmdk", size=len(data), thin=False, original=None))
    vmx = home / f"{vm}.vmx"
    vmx.write_text(VMX)
    return vmx


def backed_up(lab: Lab, vmx: Path, *, hours: int, full: bool = False, notes: Notes | None = None) -> BackupResult:
    options = BackupOptions(full=full, at=NIGHT + dt.timedelta(hours=hours), scratch=lab.folder)
    (made,) = backup(vmx, lab.targets["t"], options, notes or BackupReporter())
    return made


@pytest.fixture
def vms(lab: Lab) -> tuple[Path, Path]:
    return clone(lab.folder, "CRM", os.urandom(BLOCK)), clone(lab.folder, "CRM-Test", os.urandom(BLOCK))


def test_a_clone_gets_a_full_of_its_own_and_the_message_names_the_other_vm(lab: Lab, vms: tuple[Path, Path]) -> None:
    notes = Notes()
    original, copy = backed_up(lab, vms[0], hours=0), backed_up(lab, vms[1], hours=1, notes=notes)
    assert original.full is not None
    assert copy.full is not None
    assert f"-CRM-Test.{UUID}/" in copy.full.path
    assert "also those of a disk of the VM CRM on this target" in notes.lines[0]
    assert "--vm CRM " in notes.lines[0]


def test_fulls_of_two_clones_in_one_minute_have_each_their_own_deltas(lab: Lab, vms: tuple[Path, Path]) -> None:
    fulls = [backed_up(lab, vmx, hours=0, full=True) for vmx in vms]
    deltas = [backed_up(lab, vmx, hours=hours) for hours, vmx in ((2, vms[1]), (1, vms[0]))][::-1]
    assert fulls[0].full is not None
    assert fulls[1].full is not None
    assert fulls[0].full.name == fulls[1].full.name
    assert [delta.header.full_id for delta in deltas] == [full.header.full_id for full in fulls]
    assert [delta.header.blocks_full for delta in deltas] == [1, 1]
    for delta, vmx in zip(deltas, vms, strict=True):
        assert lab.restored(delta.delta) == vmx.with_name("CRM-flat.vmdk").read_bytes()


def test_a_full_and_an_empty_delta_in_one_folder_belong_together(lab: Lab, vms: tuple[Path, Path]) -> None:
    """A person copied the archives of an earlier day into the folder of another; both have a pair of the same names."""
    first = backed_up(lab, vms[0], hours=0, full=True)
    folder = lab.path(first.delta).parent
    aside = folder.rename(lab.folder / "aside")
    backed_up(lab, vms[0], hours=0, full=True)
    aside.rename(folder.with_name(folder.name.replace("2026.03.01", "2026.02.28")))
    assert backed_up(lab, vms[0], hours=1).header.blocks_full == 1


def test_the_full_of_another_vm_is_refused_by_the_name_of_that_vm(lab: Lab, vms: tuple[Path, Path]) -> None:
    one, other = (backed_up(lab, vmx, hours=0, full=True) for vmx in vms)
    assert one.full is not None
    wrong = pytest.raises(NotThisFull, match="it is of the VM CRM, the Delta of the VM CRM-Test, which has the same UUID")
    with FullReader(lab.targets.open(one.full)) as full, wrong:
        full.prove(lab.reader(other.delta))


def test_a_folder_of_another_vm_that_may_not_be_read_does_not_stop_the_backup_of_its_clone(
    lab: Lab, vms: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backed_up(lab, vms[0], hours=0)
    hidden = Gap(path=f"2026.03.01-CRM.{UUID}", kind=GapKind.UNREADABLE, why="permission denied")

    def listing(_self: LocalTarget, gaps: list[Gap] | None = None) -> list[ListedFile]:
        assert gaps is not None
        gaps.append(hidden)
        return []

    monkeypatch.setattr(LocalTarget, "listing", listing)
    assert backed_up(lab, vms[1], hours=1).full is not None
