"""One table of what is no plain disk, held at every door: backup, adopt, stub, and a gzip restored to a VMDK."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.backup.adopt import adopt_full
from restore_core.backup.source import open_disk
from restore_core.backup.subject import Asked
from restore_core.disk.foreign import HEAD, TAIL, foreign_kind, only_plain
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import DestinationError, SourceRefused
from restore_core.restore.extras import write_stub
from restore_core.restore.full import restore_full
from restore_core.restore.request import RestoreRequest
from restore_core.targets.base import ArchiveRef
from tests.lab import UUID, Lab, go_on

SIZE = 3 << 20
FULL = f"2026.03.01-CRM.{UUID}/00-CRM.vmdk.gz-260301-0300.phd"


def qemu(folder: Path, form: str, *options: str) -> bytes:
    (folder / "raw").write_bytes(b"\xeb\x3cdisk" + bytes(SIZE - 6))
    subprocess.run(["qemu-img", "convert", "-O", form, *options, folder / "raw", folder / "image"], check=True)
    return (folder / "image").read_bytes()


def tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        member = tarfile.TarInfo("disk.img")
        member.size = 1000
        archive.addfile(member, io.BytesIO(b"x" * 1000))
    return out.getvalue()


def old_tar() -> bytes:
    """A tar of before 1988: no magic, the sum of the header anew."""
    data = bytearray(tar(tarfile.USTAR_FORMAT))
    data[257:512] = bytes(255)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


MADE: dict[str, Callable[[Path], bytes]] = {
    "sparse VMDK": lambda f: qemu(f, "vmdk", "-o", "subformat=monolithicSparse"),
    "a sparse VMDK": lambda f: qemu(f, "vmdk", "-o", "subformat=streamOptimized"),
    "sparse": lambda _: b"COWD" + bytes(4096),
    "SEsparse": lambda _: b"\xbe\xba\xfe\xca\0\0\0\0" + bytes(4096),
    "qcow2": lambda f: qemu(f, "qcow2"),
    "QED": lambda f: qemu(f, "qed"),
    "VDI": lambda f: qemu(f, "vdi"),
    "VHDX": lambda f: qemu(f, "vhdx"),
    "VHD": lambda f: qemu(f, "vpc"),
    "a VHD image (of fixed size)": lambda f: qemu(f, "vpc", "-o", "subformat=fixed"),
    "Parallels": lambda f: qemu(f, "parallels"),
    "tar": lambda _: tar(tarfile.USTAR_FORMAT),
    "a tar": lambda _: tar(tarfile.GNU_FORMAT),
    "a tar archive": lambda _: old_tar(),
    "a gzip file": lambda _: gzip.compress(b"disk" * 999),
    "an xz file": lambda _: lzma.compress(b"disk" * 999),
    "a bzip2 file": lambda _: bz2.compress(b"disk" * 999),
    "a zstd file": lambda _: b"\x28\xb5\x2f\xfd" + bytes(100),
    "zip": lambda _: b"PK\x03\x04" + bytes(100),
    "descriptor": lambda _: render_descriptor(flat_name="a-flat.vmdk", size=SIZE, thin=False, original=None).encode(),
    "a VMDK descriptor": lambda _: b"\xef\xbb\xbf\r\n# Disk descriptorFile\r\nversion=1\r\n",
}


@pytest.fixture(params=MADE)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bytes]:
    return request.param, MADE[request.param](tmp_path)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def put(lab: Lab, data: bytes) -> ArchiveRef:
    path = lab.store / FULL
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data))
    return ArchiveRef(target="t", path=FULL)


def test_every_door_refuses_what_is_no_plain_disk_by_the_same_name(lab: Lab, image: tuple[str, bytes]) -> None:
    names, data = image
    (lab.folder / "x.img").write_bytes(data)
    (lab.folder / "x-flat.vmdk").write_bytes(data)
    ref = put(lab, data)
    request = RestoreRequest(delta=ref, destination=lab.folder / "out" / "x.vmdk")
    doors: tuple[Callable[[], object], ...] = (
        lambda: open_disk(lab.folder / "x.img", live=True),
        lambda: adopt_full(ref, lab.targets, Asked(), scratch=lab.folder, tick=lambda _: None),
        lambda: write_stub(lab.folder / "x-flat.vmdk"),
        lambda: restore_full(request, lab.targets, reporter=lab.witness, stop=go_on),
    )
    for door in doors:
        with pytest.raises((SourceRefused, DestinationError)) as caught:
            door()
        assert names in caught.value.message
        assert "not the plain bytes of a disk" in caught.value.message.replace(" of the plain", " the plain")
        assert caught.value.remedy
    assert sorted(path.name for path in (lab.store / FULL).parent.iterdir()) == [Path(FULL).name]
    assert not (lab.folder / "x.vmdk").exists()
    assert lab.leftovers() == []


@pytest.mark.parametrize("kind", ["sparse VMDK", "qcow2", "VDI", "VHDX", "VHD"])
def test_the_advice_names_the_command_that_converts(lab: Lab, tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceRefused) as caught:
        adopt_full(put(lab, MADE[kind](tmp_path)), lab.targets, Asked(), scratch=tmp_path, tick=lambda _: None)
    assert "qemu-img convert -O raw" in (caught.value.remedy or "")
    assert "gzip -dc" in (caught.value.remedy or "")


def test_a_gzip_of_nothing_is_not_adopted(lab: Lab) -> None:
    with pytest.raises(SourceRefused, match="nothing"):
        adopt_full(put(lab, b""), lab.targets, Asked(), scratch=lab.folder, tick=lambda _: None)


def test_a_gzip_of_an_image_is_still_unpacked_to_another_name_than_a_vmdk(lab: Lab) -> None:
    request = RestoreRequest(delta=put(lab, b"QFI\xfb" + bytes(1020)), destination=lab.folder / "out" / "x.qcow2")
    restore_full(request, lab.targets, reporter=lab.witness, stop=go_on)
    assert (lab.folder / "out" / "x.qcow2").read_bytes() == b"QFI\xfb" + bytes(1020)


@pytest.mark.parametrize(
    "head",
    [
        b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa",
        bytes(512),
        b"LUKS\xba\xbe\0\x02",
        b"XFSB\0\0\x10\0",
        b"\xeb\x52\x90NTFS    ",
        b"LABELONE",
        b"\0" * 32769 + b"CD001",
    ],
)
def test_what_disks_begin_with_is_a_disk(lab: Lab, head: bytes) -> None:
    data = head + bytes(SIZE - len(head))
    assert foreign_kind(data[:HEAD], data[-TAIL:], SIZE) is None
    adopt_full(put(lab, data), lab.targets, Asked(), scratch=lab.folder, tick=lambda _: None)


@given(st.binary(min_size=1, max_size=3000), st.lists(st.integers(1, 700), max_size=9))
def test_the_pieces_in_which_bytes_come_change_nothing(data: bytes, cuts: list[int]) -> None:
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    pieces.append(data[at:])
    whole = foreign_kind(data[:HEAD], data[-TAIL:], len(data))
    try:
        passed: bytes | None = b"".join(only_plain(iter(pieces), "x"))
    except SourceRefused:
        passed = None
    assert passed == (data if whole is None else None)


def test_the_data_of_a_flat_file_stay_the_guests_own(tmp_path: Path) -> None:
    """A guest can write any header into its first sector: a disk that has its descriptor is backed up whatever is in it."""
    (tmp_path / "a-flat.vmdk").write_bytes(b"QFI\xfb" + bytes(1020))
    (tmp_path / "a.vmdk").write_text(render_descriptor(flat_name="a-flat.vmdk", size=1024, thin=False, original=None))
    source = open_disk(tmp_path / "a.vmdk", live=True)
    assert os.pread(source.fd, 4, 0) == b"QFI\xfb"
    source.close()
