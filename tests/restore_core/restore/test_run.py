"""A Delta restore from the outside: what lies where afterwards, what is refused at first, what is left after a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.archive.header import HEAD_BYTES
from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.disk.vmdk import parse_descriptor
from restore_core.errors import BadArchive, DestinationError, DestinationExists, DestinationInUse, NoSpace, Stopped, size_text
from restore_core.restore import run
from restore_core.restore.extras import restore_vmx, write_stub
from restore_core.restore.request import Provision, RestoreRequest, VmxChoice
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, UUID, Lab

DATA = os.urandom(2 * BLOCK) + bytes(BLOCK) + os.urandom(BLOCK // 2)


def machine(lab: Lab) -> list[ArchiveRef]:
    """A VM with two disks, backed up by its VMX; the references of the empty Deltas."""
    folder = lab.folder / "vm" / "CRM"
    folder.mkdir(parents=True)
    lines = ['displayName = "shown elsewhere"', f'uuid.bios = "{UUID.replace("-", "")[:16]}-{UUID.replace("-", "")[16:]}"']
    for number, name in enumerate(["CRM", "data"]):
        (folder / f"{name}-flat.vmdk").write_bytes(DATA)
        sectors = len(DATA) // 512
        (folder / f"{name}.vmdk").write_text(
            f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="vmfs"\n'
            f'RW {sectors} VMFS "{name}-flat.vmdk"\n'
            'ddb.adapterType = "buslogic"\nddb.uuid = "60 00 C2 9f"\n'
        )
        lines += [f'scsi0:{number}.present = "TRUE"', f'scsi0:{number}.fileName = "{name}.vmdk"']
    (folder / "CRM.vmx").write_text("\n".join(lines) + "\n")
    made = backup(folder / "CRM.vmx", lab.targets["t"], BackupOptions(scratch=lab.folder), BackupReporter())
    assert len({result.delta.folder for result in made}) == 1
    assert [result.header.scsi for result in made] == ["00", "01"]
    assert {result.header.vm for result in made} == {"CRM"}
    return [result.delta for result in made]


def test_a_vmdk_with_its_descriptor_and_vmx(lab: Lab) -> None:
    delta, _ = machine(lab)
    outcome = lab.restore(delta, "deep/er/new.vmdk", vmx=VmxChoice.AS_IS)
    folder = lab.folder / "out" / "deep" / "er"
    assert sorted(path.name for path in folder.iterdir()) == ["new-flat.vmdk", "new.vmdk", "new.vmx"]
    assert (folder / "new-flat.vmdk").read_bytes() == DATA
    assert (folder / "new.vmx").read_bytes() == (lab.folder / "vm" / "CRM" / "CRM.vmx").read_bytes()
    assert outcome.vmx == folder / "new.vmx"
    descriptor = parse_descriptor((folder / "new.vmdk").read_text(), "test")
    assert descriptor.extents[0].file == "new-flat.vmdk"
    assert dict(descriptor.ddb)["ddb.adapterType"] == "buslogic"
    assert (folder / "new-flat.vmdk").stat().st_mode & 0o777 == 0o600


def test_qemu_reads_it(lab: Lab) -> None:
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is not installed")
    delta, _ = machine(lab)
    for provision in Provision:
        lab.restore(delta, f"{provision.value}.vmdk", provision=provision)
        (lab.folder / "raw.img").write_bytes(DATA)
        path = str(lab.folder / "out" / f"{provision.value}.vmdk")
        subprocess.run(["qemu-img", "info", path], check=True, stdout=subprocess.DEVNULL)
        same = subprocess.run(
            ["qemu-img", "compare", "-f", "vmdk", "-F", "raw", path, str(lab.folder / "raw.img")], capture_output=True, check=False
        )
        assert same.returncode == 0, same.stdout + same.stderr


def test_thick_is_allocated_and_thin_is_not(lab: Lab) -> None:
    made = lab.backup(bytes(40 * BLOCK) + b"x" * BLOCK)
    for provision in Provision:
        lab.restore(made.delta, f"{provision.value}.img", provision=provision)
    blocks = {p.value: (lab.folder / "out" / f"{p.value}.img").stat().st_blocks * 512 for p in Provision}
    assert blocks["thick"] >= 41 * BLOCK
    assert blocks["thin"] < 3 * BLOCK


def test_what_exists_is_refused(lab: Lab) -> None:
    delta, _ = machine(lab)
    lab.restore(delta, "a.vmdk")
    with pytest.raises(DestinationExists, match=r"a\.vmdk is there already"):
        lab.restore(delta, "a.vmdk")
    (lab.folder / "out" / "a.vmdk").unlink()
    with pytest.raises(DestinationExists, match="a-flat"):
        lab.restore(delta, "a.vmdk")


def test_overwrite_replaces_and_keeps_owner_and_mode(lab: Lab) -> None:
    delta, _ = machine(lab)
    lab.restore(delta, "a.vmdk")
    flat = lab.folder / "out" / "a-flat.vmdk"
    flat.write_bytes(b"old" * 1000)
    flat.chmod(0o640)
    outcome = lab.restore(delta, "a.vmdk", overwrite=True)
    assert flat.read_bytes() == DATA
    assert flat.stat().st_mode & 0o777 == 0o640
    assert outcome.way.startswith("replaced")
    assert lab.leftovers() == ["a-flat.vmdk", "a.vmdk"]


def test_a_bad_archive_leaves_the_old_disk(lab: Lab) -> None:
    made = lab.backup(DATA)
    assert made.full is not None
    (lab.folder / "out").mkdir()
    (lab.folder / "out" / "a.img").write_bytes(b"old")
    whole = bytearray(lab.path(made.full).read_bytes())
    whole[-2000] ^= 1
    lab.path(made.full).write_bytes(whole)
    with pytest.raises(BadArchive):
        lab.restore(made.delta, "a.img", overwrite=True)
    assert (lab.folder / "out" / "a.img").read_bytes() == b"old"
    assert lab.leftovers() == ["a.img"]


def test_two_disks_of_a_vm_bring_one_vmx(lab: Lab) -> None:
    first, second = machine(lab)
    lab.restore(first, "vm/CRM.vmdk", vmx=VmxChoice.AS_IS)
    outcome = lab.restore(second, "vm/CRM_1.vmdk", vmx=VmxChoice.AS_IS)
    folder = lab.folder / "out" / "vm"
    assert [path.name for path in folder.glob("*.vmx")] == ["CRM.vmx"]
    assert outcome.vmx == folder / "CRM.vmx"


def test_another_vmx_is_never_overwritten(lab: Lab) -> None:
    delta, _ = machine(lab)
    (lab.folder / "out").mkdir()
    (lab.folder / "out" / "a.vmx").write_text("mine")
    with pytest.raises(DestinationExists, match="another VMX"):
        lab.restore(delta, "a.vmdk", vmx=VmxChoice.AS_IS)
    assert lab.leftovers() == ["a.vmx"]


def test_no_vmx_in_the_delta(lab: Lab) -> None:
    made = lab.backup(DATA)
    with pytest.raises(BadArchive, match="holds no VMX"):
        lab.restore(made.delta, "a.img", vmx=VmxChoice.AS_IS)
    assert lab.leftovers() == []


def test_a_size_that_no_vmdk_can_have(lab: Lab) -> None:
    made = lab.backup(DATA + b"odd")
    with pytest.raises(DestinationError, match="512"):
        lab.restore(made.delta, "a.vmdk")
    assert lab.leftovers() == []


def test_no_space_is_refused_before_writing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lab.backup(DATA)
    monkeypatch.setattr("restore_core.disk.allocation.free_bytes", lambda _fd: 1000)
    with pytest.raises(NoSpace, match=rf"{size_text(len(DATA))} needed, 1000 bytes free") as caught:
        lab.restore(made.delta, "a.img")
    assert (caught.value.needed, caught.value.free) == (len(DATA), 1000)
    assert lab.leftovers() == []


def test_two_restores_of_one_disk(lab: Lab) -> None:
    made = lab.backup(DATA)
    (lab.folder / "out").mkdir()
    folder = os.open(lab.folder / "out", os.O_RDONLY)
    other = durable.take_part("a.img.phd-new", dir_fd=folder)
    with pytest.raises(DestinationInUse, match="another restore"):
        lab.restore(made.delta, "a.img")
    os.close(other)
    assert lab.restored(made.delta, "a.img") == DATA
    os.close(folder)


@pytest.mark.parametrize("keep", [True, False])
def test_stopped(lab: Lab, keep: bool) -> None:
    made = lab.backup(DATA * 20)

    def halt() -> None:
        raise Stopped("asked to stop")

    request = RestoreRequest(delta=made.delta, destination=lab.folder / "out" / "a.img")
    with pytest.raises(Stopped):
        run.restore_delta(request, lab.targets, reporter=lab.witness, stop=halt, keep_part=lambda _error: keep)
    assert lab.leftovers() == (["a.img.phd-hold", "a.img.phd-new"] if keep else [])
    assert lab.restored(made.delta, "a.img") == DATA * 20
    assert lab.leftovers() == ["a.img"]


def test_readback_finds_what_the_disk_lost(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that says yes and forgets: the cache is checked by nobody but the read-back."""
    made = lab.backup(DATA)
    honest = durable.sync_file

    def forgetful(fd: int) -> None:
        honest(fd)
        os.pwrite(fd, b"forgotten", BLOCK + 5)

    monkeypatch.setattr(durable, "sync_file", forgetful)
    with pytest.raises(BadArchive, match=r"block 1 .*read back"):
        lab.restore(made.delta, "a.img", readback=True)
    assert lab.leftovers() == []
    lab.restore(made.delta, "a.img")
    assert (lab.folder / "out" / "a.img").read_bytes() != DATA, "without the read-back nobody notices: the check above can fail"


def test_fsync_that_fails_ends_the_restore(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lab.backup(DATA)
    calls = []

    def broken(fd: int) -> None:
        calls.append(fd)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "sync_file", broken)
    with pytest.raises(Exception, match="Input/output error"):
        lab.restore(made.delta, "a.img")
    assert len(calls) == 1, "an fsync that failed is never repeated"
    assert lab.leftovers() == []


def test_truncated_delta_at_many_places(lab: Lab) -> None:
    made = lab.backup(DATA)
    whole = lab.path(made.delta).read_bytes()
    ends = [0, 1, 100, HEAD_BYTES - 1, HEAD_BYTES, len(whole) - 1] + [s.offset + s.length // 2 for s in made.header.sections]
    for end in ends:
        lab.path(made.delta).write_bytes(whole[:end])
        with pytest.raises(BadArchive):
            lab.restore(made.delta, "a.img")
    lab.path(made.delta).write_bytes(whole + b"x")
    with pytest.raises(BadArchive, match="appended"):
        lab.restore(made.delta, "a.img")
    assert lab.leftovers() == []


def test_vmx_alone_and_stub(lab: Lab) -> None:
    delta, _ = machine(lab)
    (lab.folder / "out").mkdir()
    path = restore_vmx(delta, lab.targets, lab.folder / "out")
    assert path.name == "CRM.vmx"
    assert path.read_bytes() == (lab.folder / "vm" / "CRM" / "CRM.vmx").read_bytes()
    with pytest.raises(DestinationExists):
        restore_vmx(delta, lab.targets, lab.folder / "out")
    flat = lab.folder / "out" / "b-flat.vmdk"
    flat.write_bytes(bytes(5120))
    stub: Path = write_stub(flat)
    assert stub.name == "b.vmdk"
    assert parse_descriptor(stub.read_text(), "t").extents[0].sectors == 10
    with pytest.raises(DestinationExists):
        write_stub(flat)
