from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.backup.source import DiskSource, open_disk, open_vmx
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import SourceRefused

VMX = b"""\
displayName = "CRM"
uuid.bios = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"
scsi0:0.fileName = "CRM.vmdk"
scsi0:1.fileName = "../data/CRM_1.vmdk"
"""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "CRM"
    folder.mkdir()
    with (folder / "CRM-flat.vmdk").open("wb") as flat:
        flat.write(b"boot")
        flat.truncate(1 << 20)
    descriptor = folder / "CRM.vmdk"
    descriptor.write_text(render_descriptor(flat_name="CRM-flat.vmdk", size=1 << 20, thin=False, original=None))
    return descriptor


@contextlib.contextmanager
def opened(path: Path, *, live: bool = False) -> Iterator[DiskSource]:
    source = open_disk(path, live=live)
    try:
        yield source
    finally:
        source.close()


def refusal(path: Path, *, live: bool = False) -> str:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SourceRefused) as caught:
        open_disk(path, live=live)
    caught.value.__traceback__ = None
    assert len(os.listdir("/proc/self/fd")) == before
    assert caught.value.remedy
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    return str(caught.value)


def edit(descriptor: Path, old: str, new: str) -> None:
    text = descriptor.read_text()
    assert old in text
    descriptor.write_text(text.replace(old, new))


def qemu_img(path: Path, form: str, *options: str, size: str = "1M") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", form, *options, path, size], check=True)
    return path


@pytest.mark.parametrize("asked", ["CRM.vmdk", "CRM-flat.vmdk"])
def test_a_flat_disk_by_either_of_its_files(disk: Path, asked: str):
    with opened(disk.with_name(asked)) as source:
        assert source.path == disk.with_name("CRM-flat.vmdk")
        assert (source.size, source.disk_name, source.folder, source.is_device) == (1 << 20, "CRM.vmdk", "CRM", False)
        assert source.descriptor == disk.read_text()
        assert os.pread(source.fd, 4, 0) == b"boot"
        source.unchanged()
    source.close()


def test_a_disk_made_by_qemu(tmp_path: Path):
    image = qemu_img(tmp_path / "x.vmdk", "vmdk", "-o", "subformat=monolithicFlat", size="3M")
    with opened(image) as source:
        assert (source.path.name, source.size) == ("x-flat.vmdk", 3 << 20)


@pytest.mark.parametrize("asked", ["CRM.vmdk", "CRM-flat.vmdk"])
def test_links_lead_to_the_real_pair(disk: Path, tmp_path: Path, asked: str):
    (tmp_path / "short").symlink_to(disk.parent)
    (tmp_path / asked).symlink_to(disk.with_name(asked))
    for path in (tmp_path / "short" / asked, tmp_path / asked):
        with opened(path) as source:
            assert (source.path, source.folder) == (disk.with_name("CRM-flat.vmdk"), "CRM")
            assert source.descriptor is not None


@pytest.mark.parametrize("size", [0, 1, 511, 513, (1 << 20) + 1])
@pytest.mark.parametrize("name", ["disk.img", "disk"])
def test_a_raw_image_of_any_size(tmp_path: Path, name: str, size: int):
    (tmp_path / name).write_bytes(b"\xeb" * size)
    with opened(tmp_path / name) as source:
        assert (source.size, source.disk_name, source.descriptor, source.folder) == (size, name, None, tmp_path.name)


@pytest.mark.parametrize(("name", "disk"), [("old-flat.vmdk", "old.vmdk"), ("OLD-FLAT.VMDK", "OLD.VMDK")])
def test_a_flat_file_without_its_descriptor_is_named_as_its_disk(tmp_path: Path, name: str, disk: str):
    """A restore to the name of a flat file is refused, so no backup has one."""
    (tmp_path / name).write_bytes(b"\xeb" * 512)
    with opened(tmp_path / name) as source:
        assert (source.size, source.disk_name, source.descriptor) == (512, disk, None)
        assert source.path == tmp_path / name


def test_a_block_device_keeps_the_name_it_was_asked_by(tmp_path: Path):
    image = tmp_path / "image"
    image.write_bytes(b"x" * 4096 * 3)
    done = subprocess.run(["losetup", "--find", "--show", image], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        (tmp_path / "vg-crm").symlink_to(device)
        with opened(tmp_path / "vg-crm") as source:
            assert (source.size, source.disk_name, source.is_device) == (4096 * 3, "vg-crm", True)
            assert os.pread(source.fd, 4, 0) == b"xxxx"
            source.unchanged()
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("parentCID=ffffffff", "parentCID=12345678", "a snapshot"),
        ("parentCID=ffffffff", 'parentCID=ffffffff\nparentFileNameHint="base.vmdk"', "a snapshot of base.vmdk"),
        ("CRM-flat.vmdk", "CRM-000001-delta.vmdk", "a snapshot"),
        ('"vmfs"', '"vmfsRawDeviceMap"', "a raw device mapping"),
        ('"vmfs"', '"fullDevice"', "a raw device mapping"),
        ("VMFS", "VMFSRDM", "a raw device mapping"),
        ('"vmfs"', '"vmfsSparse"', "a sparse disk"),
        ("RW 2048", 'RW 1 VMFS "CRM-a.vmdk"\nRW 2047', "split into 2 extents"),
        ("RW 2048", "RW 2049", "1049088 bytes, CRM-flat.vmdk has 1048576"),
        ("RW 2048", "RW 2047", "1048064 bytes, CRM-flat.vmdk has 1048576"),
        ("version=1", 'version=1\nkeyID="k1"\nencryptionKeys="vmware:key/fqid/x"', "an encrypted disk"),
        ("version=1", 'version=1\nencryption.keySafe="vmware:key/list"', "an encrypted disk"),
        ("createType", 'encryption.data = "x"\nXType', "an encrypted disk"),
        ("ddb.adapterType", 'ddb.iofilters = "vmwarevmcrypt"\nddb.adapterType', "an encrypted disk"),
        ("ddb.adapterType", 'DDB.IOFilters = "cache,VMwareVMCrypt"\nddb.adapterType', "an encrypted disk"),
        ("version=1", "nonsense", "neither a setting nor an extent"),
    ],
)
@pytest.mark.parametrize("asked", ["CRM.vmdk", "CRM-flat.vmdk"])
def test_what_is_not_one_flat_disk_is_refused_by_name(disk: Path, asked: str, old: str, new: str, names: str):
    edit(disk, old, new)
    assert names in refusal(disk.with_name(asked), live=True)


@pytest.mark.parametrize("file", ["/etc/passwd", "../CRM/CRM-flat.vmdk", "..", "sub/CRM-flat.vmdk"])
def test_data_outside_the_folder_are_not_read(disk: Path, file: str):
    edit(disk, "CRM-flat.vmdk", file)
    assert "outside its folder" in refusal(disk)


def test_a_planted_link_in_the_place_of_the_data_is_not_read(disk: Path):
    flat = disk.with_name("CRM-flat.vmdk")
    flat.symlink_to(flat.rename(disk.parent.parent / "secret"))
    assert "CRM-flat.vmdk: a link, which is not followed" in refusal(disk)


def test_a_descriptor_without_its_data_names_the_missing_file(disk: Path):
    disk.with_name("CRM-flat.vmdk").unlink()
    assert "CRM-flat.vmdk: No such file" in refusal(disk)


def test_a_flat_file_whose_descriptor_describes_another(disk: Path):
    edit(disk, "CRM-flat.vmdk", "other-flat.vmdk")
    assert "describes another file" in refusal(disk.with_name("CRM-flat.vmdk"))


@pytest.mark.parametrize(
    ("form", "options", "name", "names"),
    [
        ("qcow2", (), "x.qcow2", "qcow2"),
        ("qcow2", (), "x.img", "qcow2"),
        ("vhdx", (), "x.vhdx", "VHDX"),
        ("vpc", (), "x.vhd", "VHD"),
        ("vdi", (), "x.vdi", "VDI"),
        ("vmdk", (), "x.vmdk", "sparse"),
        ("vmdk", (), "x.img", "sparse"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "x.vmdk", "sparse"),
        ("qcow2", (), "x.vmdk", "not a descriptor"),
    ],
)
def test_images_of_other_kinds_are_named_with_a_way_out(tmp_path: Path, form: str, options: tuple[str, ...], name: str, names: str):
    image = qemu_img(tmp_path / name, form, *options)
    text = refusal(image)
    assert names in text
    assert "qemu-img convert -O raw" in text or ".img" in text


def test_split_disks_of_qemu(tmp_path: Path):
    assert "split into 2" in refusal(qemu_img(tmp_path / "x.vmdk", "vmdk", "-o", "subformat=twoGbMaxExtentFlat", size="3G"))


def test_what_a_guest_writes_into_its_disk_is_not_judged(disk: Path, tmp_path: Path):
    for flat in (disk.with_name("CRM-flat.vmdk"), tmp_path / "alone-flat.vmdk"):
        with flat.open("r+b" if flat.exists() else "w+b") as file:
            file.write(b"QFI\xfb")
        with opened(flat) as source:
            assert os.pread(source.fd, 4, 0) == b"QFI\xfb"


def test_a_descriptor_under_another_name_is_not_backed_up_as_a_disk(disk: Path):
    text = refusal(disk.rename(disk.with_name("CRM.txt")))
    assert "a VMDK descriptor under another name" in text


@pytest.mark.parametrize("name", ["x.img", "x.vmdk", "x-flat.vmdk"])
def test_things_that_are_no_files(tmp_path: Path, name: str):
    place = tmp_path / name
    assert "No such file" in refusal(place)
    place.mkdir()
    assert "a folder" in refusal(place)
    place.rmdir()
    os.mkfifo(place)
    assert "neither a plain file nor" in refusal(place)
    assert "a VMX, not a disk" in refusal(tmp_path / "x.vmx")
    assert "neither" in refusal(Path("/dev/null"))


def test_a_running_vm_is_refused_unless_live(disk: Path):
    with subprocess.Popen(["qemu-io", "-f", "vmdk", str(disk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        qemu.stdin.write(b"length\n")
        qemu.stdin.flush()
        assert b"MiB" in qemu.stdout.readline()
        for name in ("CRM.vmdk", "CRM-flat.vmdk"):
            text = refusal(disk.with_name(name))
            assert "in use" in text
            assert "qemu-io" in text
            assert "--live" in text
        with opened(disk, live=True) as source:
            assert source.size == 1 << 20
        qemu.stdin.close()
    with opened(disk):
        pass


@pytest.mark.parametrize("change", ["write", "grow", "shrink", "touch", "chmod"])
def test_a_change_while_it_is_read_is_seen(disk: Path, change: str):
    flat = disk.with_name("CRM-flat.vmdk")
    os.utime(flat, (0, 0))
    with opened(disk) as source:
        source.unchanged()
        if change == "write":
            with flat.open("r+b") as file:
                file.write(b"x")
        elif change in {"grow", "shrink"}:
            os.truncate(flat, (1 << 20) + (512 if change == "grow" else -512))
        elif change == "touch":
            os.utime(flat, (5, 5))
        else:
            flat.chmod(0o777)
        with pytest.raises(SourceRefused, match="changed while it was read"):
            source.unchanged()


def vm(disk: Path, vmx: bytes = VMX) -> Path:
    path = disk.with_name("CRM.vmx")
    path.write_bytes(vmx)
    return path


def test_the_disks_of_a_vm(disk: Path):
    found = open_vmx(vm(disk))
    assert (found.vm, found.uuid, found.vmx) == ("CRM", "564d122a-0ed7-3b92-2f46-aee9456b2074", VMX)
    assert found.disks == (("00", disk), ("01", disk.parent / "../data/CRM_1.vmdk"))
    with opened(found.disks[0][1]) as source:
        assert source.disk_name == "CRM.vmdk"


def test_a_vmx_behind_a_link_has_its_disks_beside_the_real_one(disk: Path, tmp_path: Path):
    (tmp_path / "link.vmx").symlink_to(vm(disk))
    assert open_vmx(tmp_path / "link.vmx").disks[0] == ("00", disk)


def test_absolute_names_and_names_in_another_encoding(disk: Path):
    text = '.encoding = "windows-1252"\nscsi0:0.fileName = "/vmfs/volumes/LUN 1/Büro.vmdk"\n'
    found = open_vmx(vm(disk, text.encode("windows-1252")))
    assert found.disks == (("00", Path("/vmfs/volumes/LUN 1/Büro.vmdk")),)
    assert found.uuid is None


@pytest.mark.parametrize("encoding", ["no-such", "undefined", "rot13", "UTF-8", "utf-16"])
def test_an_encoding_that_cannot_be_right_does_no_harm(disk: Path, encoding: str):
    text = f'.encoding = "{encoding}"\nscsi0:0.fileName = "B\udcfcro.vmdk"\n'
    with contextlib.suppress(SourceRefused):
        assert open_vmx(vm(disk, text.encode("utf-8", "surrogateescape"))).disks[0][1].name == "B\udcfcro.vmdk"


@pytest.mark.parametrize(
    ("vmx", "names"),
    [
        (b'displayName = "x"\n', "no disks"),
        (b'scsi0:0.fileName = "CRM.vmdk"\nscsi0:1.fileName = "../CRM/CRM.vmdk"\n', "CRM.vmdk is given twice, as 00 and as 01"),
        (b'scsi0:0.fileName = "a.vmdk"\nscsi0:00.fileName = "b.vmdk"\n', "SCSI id 00 is given twice"),
        (b"\x7fELF\0\0", "not a line of a VMX"),
        (b"# \n" * 500_000, "at most"),
    ],
)
def test_a_vmx_that_cannot_be_backed_up(disk: Path, vmx: bytes, names: str):
    with pytest.raises(SourceRefused, match=names):
        open_vmx(vm(disk, vmx))


def test_a_vmx_that_is_not_there_or_no_file(tmp_path: Path):
    with pytest.raises(SourceRefused, match="No such file"):
        open_vmx(tmp_path / "x.vmx")
    os.mkfifo(tmp_path / "x.vmx")
    with pytest.raises(SourceRefused, match="neither a plain file"):
        open_vmx(tmp_path / "x.vmx")
