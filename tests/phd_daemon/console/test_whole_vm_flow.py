"""All disks of a VM from one backup run, through the console: the run that is proposed, where it goes, and what is queued."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest

from phd_daemon.console import restore_flow, whole_vm_flow
from phd_daemon.console.menus import call
from phd_daemon.operations import backups
from phd_daemon.operations.vm_disks import VmDisks
from phd_daemon.spool.control_file import parse_control_file
from restore_core.naming import delta_name
from restore_core.restore.request import VmxChoice
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.scripted import BACK, ENTER, Answer, Scripted
from tests.phd_daemon.small_backup import STAMP, small_backup

LATER = STAMP + dt.timedelta(days=1)
TO_WHOLE: list[tuple[str, Answer]] = [("Virtual Machines", ENTER), ("a date or All Dates", "w")]
OUT: list[tuple[str, Answer]] = [("a date or All Dates", BACK), ("Virtual Machines", BACK)]
PLACE: list[tuple[str, Answer]] = [("Datastore", ENTER), ("Folder on", ENTER)]


@pytest.fixture
def vm(place: Place) -> Place:
    """Two disks, backed up together; one of them once more, later."""
    small_backup(place.folder / "nas", name="CRM_1.vmdk", size=1 << 20, seed=2)
    alone = place.backup.delta_path.with_name(delta_name(scsi="00", disk="CRM.vmdk", stamp=LATER, base=STAMP))
    shutil.copy(place.backup.delta_path, alone)
    return place


def talk(place: Place, *answers: tuple[str, Answer]) -> Scripted:
    face = Scripted(*TO_WHOLE, *answers, *OUT)
    call("test", restore_flow.by_vm, face, place.session)
    assert face.answers == []
    return face


def jobs(place: Place) -> dict[str, tuple[Path, bool | str, VmxChoice]]:
    controls = {path.stem: parse_control_file(path.read_bytes()) for path in place.spool.glob("*.job")}
    return {name: (one.restore_to, one.options.overwrite, one.options.vmx) for name, one in controls.items()}


def test_the_newest_run_with_all_disks_is_proposed_and_a_newer_backup_of_one_disk_is_named(vm: Place) -> None:
    face = talk(vm, ("A backup run of CRM", ENTER), *PLACE, ("Submit 2 jobs", ENTER), ("Restore the VMX file also", "y"))
    assert jobs(vm) == {
        "CRM": (vm.datastore / "CRM" / "CRM.vmdk", False, VmxChoice.AS_IS),
        "CRM_1": (vm.datastore / "CRM" / "CRM_1.vmdk", False, VmxChoice.NONE),
    }
    assert [line for line in face.seen if line.startswith("2007-09-2") and line.strip().endswith(".vmdk")] == [
        "2007-09-20 16:01 2 CRM.vmdk, CRM_1.vmdk "
    ]
    assert "Not taken, as it is not of all disks: the newer backup of CRM.vmdk" in face.text()
    assert "No daemon serves the restore queue" in face.text()


def test_a_disk_that_is_there_is_written_over_only_after_a_yes(vm: Place) -> None:
    disk = vm.datastore / "CRM" / "CRM_1.vmdk"
    disk.parent.mkdir()
    disk.write_text("mine")
    run = ("A backup run of CRM", ENTER)
    talk(vm, run, *PLACE, ("Write over 1 disk", ENTER), ("Folder on", BACK), ("Datastore", BACK), ("A backup run", BACK))
    assert jobs(vm) == {}
    talk(vm, run, *PLACE, ("Write over 1 disk", "y"), ("Submit 2 jobs", "y"), ("Restore the VMX file also", "n"))
    assert {name: overwrite for name, (_, overwrite, _) in jobs(vm).items()} == {"CRM": False, "CRM_1": True}


def test_where_no_run_has_all_disks_each_can_be_taken_by_a_choice(vm: Place) -> None:
    for path in (vm.folder / "nas").rglob("*CRM_1.vmdk.delta*"):
        later = LATER + dt.timedelta(days=1)
        path.rename(path.with_name(delta_name(scsi="00", disk="CRM_1.vmdk", stamp=later, base=STAMP)))
    face = talk(vm, ("A backup run of CRM", BACK))
    runs = [line.strip() for line in face.seen if line.startswith("2007-09-2") and line.strip().endswith(".vmdk")]
    assert runs == ["2007-09-22 16:01 1 CRM_1.vmdk", "2007-09-21 16:01 1 CRM.vmdk", "2007-09-20 16:01 1 CRM.vmdk"]


def test_a_disk_that_the_vm_has_no_more_hinders_no_newer_run_and_is_named(vm: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    now = VmDisks(backed_up=frozenset({"00"}), left_out=("scsi0:5",))
    for module in (whole_vm_flow, backups):
        monkeypatch.setattr(module, "disks_at", lambda _: lambda entry: now if entry.time == LATER else None)
    for path in (vm.folder / "nas").rglob("*CRM_1.vmdk*"):
        path.rename(path.with_name(path.name.replace("00-CRM_1", "01-CRM_1")))
    run = ("A backup run of CRM", ENTER)
    face = talk(vm, run, *PLACE, ("Submit 1 job", "n"), ("Folder on", BACK), ("Datastore", BACK), ("A backup run", BACK))
    assert "2007-09-21 16:01 1 CRM.vmdk" in face.text()
    assert "not in this backup: CRM_1.vmdk (scsi0:1), last backed up 2007-09-20 16:01 UTC" in face.text()
    assert "left out of this backup: scsi0:5" in face.text()
    assert face.text().lower().count("left out of this backup: scsi0:5") == 1  # and not a second time, in another case


def test_a_vm_with_one_disk_is_restored_disk_by_disk(place: Place) -> None:
    face = Scripted(("Virtual Machines", ENTER), *OUT)
    call("test", restore_flow.by_vm, face, place.session)
    assert "All disks of this VM" not in face.text()


def test_fulls_alone_are_no_backup_run(vm: Place) -> None:
    for path in (vm.folder / "nas").rglob("*.delta*"):
        path.unlink()
    face = Scripted(("Virtual Machines", ENTER), *OUT)
    call("test", restore_flow.by_vm, face, vm.session)
    assert "All disks of this VM" not in face.text()
