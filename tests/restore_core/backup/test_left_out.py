"""What a backup of a VM says of the disks that its person left out, and of the disk that it was made of."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from restore_core.backup.run import BackupOptions, BackupResult, backup
from restore_core.backup.subject import Asked
from restore_core.catalog.index import Catalog
from restore_core.catalog.left_out import with_left_out
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import SourceRefused, TargetUnavailable
from restore_core.targets.base import Target, TargetSpec
from restore_core.targets.kinds import make_target
from restore_core.targets.local import LocalTarget
from tests.lab import BLOCK, NIGHT, UUID, Lab
from tests.restore_core.archive.stub_shell import sh
from tests.restore_core.backup.test_clones import Notes

VMX = f"""uuid.bios = "{UUID}"
scsi0:0.fileName = "CRM.vmdk"
scsi0:1.fileName = "CRM_1.vmdk"
scsi0:1.mode = "independent-persistent"
"""


def disk(folder: Path, name: str, fill: bytes) -> None:
    (folder / f"{name}-flat.vmdk").write_bytes(fill * BLOCK)
    (folder / f"{name}.vmdk").write_text(render_descriptor(flat_name=f"{name}-flat.vmdk", size=BLOCK, thin=False, original=None))


@pytest.fixture
def vmx(lab: Lab) -> Path:
    return vm_in(lab.folder / "ds1" / "CRM")


def vm_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, fill in (("CRM", b"a"), ("CRM_1", b"b")):
        disk(folder, name, fill)
    (folder / "CRM.vmx").write_text(VMX)
    return folder / "CRM.vmx"


def backed_up(lab: Lab, path: Path, *, hours: int = 0, notes: Notes | None = None, **asked: object) -> BackupResult:
    options = BackupOptions(asked=Asked(**asked), at=NIGHT + dt.timedelta(hours=hours), scratch=lab.folder)  # type: ignore[arg-type]
    (made,) = backup(path, lab.targets["t"], options, notes or Notes())
    return made


def test_an_independent_disk_is_refused_by_name_and_may_be_skipped_or_backed_up_alone(lab: Lab, vmx: Path) -> None:
    with pytest.raises(SourceRefused, match=r"1 of its 2 disks .*: scsi0:1: CRM_1.vmdk: an independent disk") as refused:
        backed_up(lab, vmx)
    assert "--skip scsi0:1" in (refused.value.remedy or "")
    assert backed_up(lab, vmx, skip=("scsi0:1",)).header.scsi == "00"
    assert backed_up(lab, vmx.with_name("CRM_1.vmdk")).header.scsi == "01"


def test_the_header_says_which_disks_were_left_out_and_a_restore_repeats_it(lab: Lab, vmx: Path) -> None:
    notes = Notes()
    made = backed_up(lab, vmx, skip=("0:1",), notes=notes)
    assert "left out, and said so in the backup: scsi0:1" in notes.lines
    assert lab.reader(made.delta).header.left_out == ("scsi0:1",)
    assert b"\n#: left-out=scsi0:1\n" in lab.path(made.delta).read_bytes()[:4096]
    lab.restore(made.delta, "CRM.vmdk")
    assert "the disk scsi0:1 of this VM was left out of the backup" in lab.witness.notes


def test_the_script_in_a_delta_says_what_was_left_out_and_is_silent_where_nothing_was(lab: Lab, vmx: Path) -> None:
    def said(made: BackupResult, *arguments: str | Path) -> str:
        return sh(lab.path(made.delta), *arguments).stdout

    part = backed_up(lab, vmx, skip=("0:1",))
    assert "  without           scsi0:1 of this VM, left out of the backup\n" in said(part, "info")
    restored = said(part, "restore", "--to", lab.folder / "back.img")
    assert restored.endswith("bytes\nleft out of the backup of this VM: scsi0:1\n")
    whole = backed_up(lab, vmx.with_name("CRM_1.vmdk"), hours=1)
    assert "left out" not in said(whole, "info").partition("id=")[0] + said(whole, "restore", "--to", lab.folder / "b.img")


def test_a_backup_of_all_disks_says_nothing_of_the_kind(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK)
    assert b"left-out" not in lab.path(made.delta).read_bytes()[:4096]
    assert (made.header.left_out, made.header.of_a_part) == ((), "")
    lab.restore(made.delta)
    assert not any("left out" in note for note in lab.witness.notes)


def test_a_list_reads_it_from_each_header_once_and_an_index_reads_none(
    lab: Lab, vmx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    plainly = LocalTarget.open

    def counting(self: LocalTarget, path: str) -> object:
        opened.append(path)
        return plainly(self, path)

    delta = backed_up(lab, vmx, skip=("scsi0:1",)).delta
    whole = backed_up(lab, vmx.with_name("CRM_1.vmdk"), hours=1).delta
    for path in lab.store.rglob("*.phd"):
        os.utime(path, (NIGHT.timestamp(),) * 2)
    (spec,) = lab.targets.specs.values()
    cache = Catalog(lab.folder / "catalog", (spec,))
    monkeypatch.setattr(LocalTarget, "open", counting)
    cache.index(make_target)
    assert opened == []
    lists = [with_left_out(cache.folder, spec, cache.entries(), make_target) for _ in range(2)]
    found = {one.ref: one.left_out for one in lists[0]}
    assert (found[delta], found[whole]) == (("scsi0:1",), ())
    assert lists[0] == lists[1]
    assert sorted(opened) == sorted([delta.path, whole.path])
    assert {one.ref: one.left_out for one in cache.entries()} == found


def test_a_list_does_without_it_where_the_target_fails(lab: Lab, vmx: Path) -> None:
    delta = backed_up(lab, vmx, skip=("scsi0:1",)).delta
    (spec,) = lab.targets.specs.values()
    cache = Catalog(lab.folder / "catalog", (spec,))
    cache.index(make_target)

    def fails(_spec: TargetSpec) -> Target:
        raise TargetUnavailable("down")

    assert [one.left_out for one in with_left_out(cache.folder, spec, cache.entries(), fails)] == [(), ()]
    lab.path(delta).unlink()
    assert [one.left_out for one in with_left_out(cache.folder, spec, cache.entries(), make_target)] == [(), ()]


def test_two_disks_with_all_names_in_common_are_both_named(lab: Lab, vmx: Path) -> None:
    """Folders of one name on two datastores: nothing in the names of the backups tells them apart."""
    notes = Notes()
    backed_up(lab, vmx, skip=("scsi0:1",))
    other = vm_in(lab.folder / "ds2" / "CRM")
    backed_up(lab, other, skip=("scsi0:1",), hours=1, notes=notes)
    (said,) = (line for line in notes.lines if "two disks share" in line)
    assert f"{lab.folder}/ds1/CRM/CRM.vmdk, and this is {lab.folder}/ds2/CRM/CRM.vmdk" in said
    assert "--vm" in said


def test_a_disk_that_was_moved_or_is_named_by_a_link_is_the_same_disk(lab: Lab, vmx: Path) -> None:
    backed_up(lab, vmx, skip=("scsi0:1",))
    (lab.folder / "alias").symlink_to(vmx.parent.parent)
    linked, moved = Notes(), Notes()
    backed_up(lab, lab.folder / "alias" / "CRM" / "CRM.vmx", skip=("scsi0:1",), hours=1, notes=linked)
    vmx.parent.rename(lab.folder / "CRM")
    backed_up(lab, lab.folder / "CRM" / "CRM.vmx", skip=("scsi0:1",), hours=2, notes=moved)
    assert not [line for line in (*linked.lines, *moved.lines) if "two disks share" in line]
