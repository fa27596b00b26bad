"""A VM of which one disk cannot be backed up: refused by default, each disk named; `--skip` leaves it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from restore_core.backup.source import open_disk
from restore_core.backup.subject import Asked, open_subjects
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import SourceRefused, UsageError

HEAD = 'uuid.bios = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"\n'
RDM = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="vmfsPassthroughRawDeviceMap"
RW 2048 VMFSRDM "rdm-rdmp.vmdk"
"""


@pytest.fixture
def vmx(tmp_path: Path) -> Path:
    folder = tmp_path / "CRM"
    folder.mkdir()
    for name in ("a", "e"):
        (folder / f"{name}-flat.vmdk").write_bytes(bytes(1 << 20))
        text = render_descriptor(flat_name=f"{name}-flat.vmdk", size=1 << 20, thin=False, original=None)
        (folder / f"{name}.vmdk").write_text(text + ('ddb.iofilters = "vmwarevmcrypt"\n' if name == "e" else ""))
    (folder / "rdm.vmdk").write_text(RDM)
    path = folder / "CRM.vmx"
    files = ["a.vmdk", "rdm.vmdk", "e.vmdk", "gone.vmdk", "[ds1] CRM/x.vmdk"]
    path.write_text(HEAD + "".join(f'scsi0:{number}.fileName = "{file}" # a\n' for number, file in enumerate(files)))
    return path


def opened(path: Path, *skip: str) -> list[str]:
    with open_subjects(path, Asked(live=True, skip=skip)) as subjects:
        return [subject.disk.scsi for subject in subjects]


def test_each_disk_that_cannot_be_backed_up_is_named_with_its_reason(vmx: Path) -> None:
    with pytest.raises(SourceRefused) as caught:
        opened(vmx)
    text = caught.value.message
    for part in (
        "4 of its 5 disks",
        "scsi0:1: ",
        "a raw device mapping",
        "scsi0:2: ",
        "encrypted",
        "scsi0:3: ",
        "gone.vmdk",
        "vSphere",
    ):
        assert part in text
    assert "--skip scsi0:4 --skip scsi0:1 --skip scsi0:2 --skip scsi0:3" in (caught.value.remedy or "")


def test_what_is_skipped_is_left_out_and_the_rest_is_still_refused(vmx: Path) -> None:
    assert opened(vmx, "scsi0:1", "0:2", "03", "SCSI0:4") == ["00"]
    with pytest.raises(SourceRefused, match="1 of its 5 disks cannot be backed up: scsi0:2"):
        opened(vmx, "scsi0:1", "scsi0:3", "scsi0:4")


def test_a_skip_that_names_no_disk_or_all_of_them_is_refused(vmx: Path) -> None:
    with pytest.raises(UsageError, match=r"--skip scsi0:9: .* has no such disk"):
        opened(vmx, "scsi0:9")
    with pytest.raises(UsageError, match="leaves no disk"):
        opened(vmx, *(f"scsi0:{number}" for number in range(5)))
    with pytest.raises(UsageError, match="--skip goes with a VMX"):
        opened(vmx.with_name("a.vmdk"), "scsi0:0")


def test_an_encrypted_vm_is_refused_by_name_and_its_plain_disk_alone_is_not(vmx: Path) -> None:
    vmx.write_text(HEAD + 'scsi0:0.fileName = "a.vmdk"\nencryption.keySafe = "x"\nencryption.data = "y"\n')
    with pytest.raises(SourceRefused, match="an encrypted VM"):
        opened(vmx)
    vmx.write_text('encryption.keySafe = "x"\nencryption.data = "y"\n')
    with pytest.raises(SourceRefused, match="an encrypted VM"):
        opened(vmx)
    open_disk(vmx.with_name("a.vmdk"), live=True).close()


def test_what_was_passed_over_in_a_vmx_is_a_note(vmx: Path) -> None:
    vmx.write_text(HEAD + 'scsi0:0.fileName = "a.vmdk"\nsnapshot.disabled\n')
    with open_subjects(vmx, Asked(live=True)) as subjects:
        assert any("snapshot.disabled" in note for note in subjects[0].notes)


def test_the_name_in_a_descriptor_in_another_encoding_leads_to_its_file(vmx: Path) -> None:
    (vmx.parent / "Büro-flat.vmdk").write_bytes(bytes(1 << 20))
    text = render_descriptor(flat_name="Büro-flat.vmdk", size=1 << 20, thin=False, original=None)
    vmx.with_name("Büro.vmdk").write_bytes(text.replace("UTF-8", "windows-1252").encode("cp1252"))
    with open_subjects(vmx.with_name("Büro.vmdk"), Asked(live=True)) as (subject,):
        assert subject.disk.disk_size == 1 << 20
        assert subject.disk.descriptor is not None
        assert b"B\xfcro" in subject.disk.descriptor
