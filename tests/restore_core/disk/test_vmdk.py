from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.disk.vmdk import (
    MAX_DESCRIPTOR,
    check_extent_name,
    descriptor_name_for,
    flat_name_for,
    load_descriptor,
    parse_descriptor,
    render_descriptor,
    why_not_flat,
)
from restore_core.errors import BadData, DestinationError

ESX = """# Disk DescriptorFile
version=3
encoding="UTF-8"
CID=7ac2e0b1
parentCID=ffffffff
isNativeSnapshot="no"
createType="vmfs"

# Extent description
RW 8388608 VMFS "CRM-flat.vmdk"

# Change Tracking File
changeTrackPath="CRM-ctk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "522"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "0123456789abcdef0123456789abcdef"
ddb.thinProvisioned = "1"
ddb.sidecars = "CRM-1.vmfd"
ddb.uuid = "60 00 C2 9b 5a 0c 91 3e-4c 77 0d 5e 5f 0a 11 22"
ddb.virtualHWVersion = "8"
"""


def changed(old: str, new: str) -> str:
    assert old in ESX
    return ESX.replace(old, new)


def test_every_fact_of_an_esx_descriptor():
    found = parse_descriptor(ESX, "CRM.vmdk")
    assert (found.version, found.cid, found.parent_cid, found.create_type, found.parent_hint) == (
        3,
        "7ac2e0b1",
        "ffffffff",
        "vmfs",
        None,
    )
    (extent,) = found.extents
    assert (extent.access, extent.sectors, extent.type) == ("RW", 8388608, "VMFS")
    assert (extent.file, extent.offset) == ("CRM-flat.vmdk", None)
    assert found.size == 4 << 30
    assert ("ddb.virtualHWVersion", "8") in found.ddb
    assert found.text == ESX
    assert why_not_flat(found) is None


def test_windows_line_ends_and_spaces_change_nothing():
    plain = parse_descriptor(ESX, "x")
    other = parse_descriptor(ESX.replace("\n", "  \r\n").replace("CID=", "CID = "), "x")
    assert (other.cid, other.extents, other.ddb) == (plain.cid, plain.extents, plain.ddb)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "no version"),
        ("hello\n", ":1: neither a setting nor an extent: hello"),
        ("\0" * 512, ":1: control characters"),
        (changed('createType="vmfs"\n', ""), "no createType"),
        (changed("parentCID=ffffffff\n", ""), "no parentCID"),
        (changed("CID=7ac2e0b1", "CID=hello"), "content id 'hello'"),
        (changed("version=3", "version=9"), "version 9"),
        (changed('RW 8388608 VMFS "CRM-flat.vmdk"', ""), "without an extent"),
        (changed("RW 8388608", "RW -1"), ":10: neither"),
        (changed("RW 8388608", "RW 9223372036854775807"), ":10: neither"),
        (changed("RW 8388608", "RW ٣"), ":10: neither"),
        (changed('"vmfs"', '"vmfs'), ":7: quotes"),
        (changed("version=3", 'version=3\ncreateType="monolithicFlat"'), "twice"),
        (ESX + "#" * MAX_DESCRIPTOR, "at most 65536"),
    ],
)
def test_nonsense_is_refused_with_its_line(text: str, names: str):
    with pytest.raises(BadData, match=re.escape(names)):
        parse_descriptor(text, "CRM.vmdk")


@given(st.text(max_size=400))
def test_any_text_is_a_descriptor_or_bad_data(text: str):
    for candidate in (text, text + ESX, ESX + text):
        with contextlib.suppress(BadData):
            parse_descriptor(candidate, "x")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (changed("parentCID=ffffffff", "parentCID=7ac2e0b0"), "a snapshot of another disk"),
        (
            changed("parentCID=ffffffff", 'parentCID=00000001\nparentFileNameHint="base\x1b[2J.vmdk"'.replace("\x1b", "%")),
            "snapshot of",
        ),
        (changed("CRM-flat.vmdk", "CRM-000001-delta.vmdk"), "a snapshot"),
        (changed("CRM-flat.vmdk", "CRM-000001.vmdk"), "a snapshot"),
        (changed('VMFS "CRM-flat', 'VMFSSPARSE "CRM-flat'), "a sparse disk"),
        (changed('"vmfs"', '"streamOptimized"'), "a sparse disk (streamOptimized)"),
        (changed('"vmfs"', '"vmfsRawDeviceMap"').replace("VMFS ", "VMFSRDM "), "a raw device mapping"),
        (changed('"vmfs"', '"vmfsPassthroughRawDeviceMap"').replace("VMFS ", "VMFSRDM "), "a raw device mapping"),
        (changed('"vmfs"', '"fullDevice"').replace('VMFS "CRM-flat.vmdk"', 'FLAT "/dev/sda" 0'), "a raw device mapping"),
        (changed('"vmfs"', '"twoGbMaxExtentFlat"').replace("VMFS", "FLAT"), "split into 1 extents"),
        (changed("RW 8388608", 'RW 63 VMFS "CRM-a.vmdk"\nRW 8388545'), "split into 2 extents"),
        (changed('VMFS "CRM-flat.vmdk"', "ZERO"), "of an unknown kind"),
        (changed('"vmfs"', '"vsanSomething"'), "of an unknown kind (vsanSomething"),
        (changed('CRM-flat.vmdk"', 'CRM-flat.vmdk" 63'), "starts at sector 63"),
        (changed("RW 8388608", "NOACCESS 8388608"), "access NOACCESS"),
    ],
)
def test_each_kind_that_is_not_flat_is_named(text: str, names: str):
    found = why_not_flat(parse_descriptor(text, "x"))
    assert found is not None
    assert names in found


def test_a_sparse_file_is_told_from_a_descriptor(tmp_path: Path):
    for subformat in ("monolithicSparse", "streamOptimized"):
        disk = tmp_path / f"{subformat}.vmdk"
        subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", disk, "1M"], check=True)
        with disk.open("rb") as file, pytest.raises(BadData, match="a sparse VMDK"):
            load_descriptor(file.fileno(), "x")


def test_disk_data_is_told_from_a_descriptor(tmp_path: Path):
    disk = tmp_path / "data.vmdk"
    disk.write_bytes(b"#" * (MAX_DESCRIPTOR + 1))
    with disk.open("rb") as file, pytest.raises(BadData, match="disk data, not a descriptor"):
        load_descriptor(file.fileno(), "x")


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("original", [None, ESX, changed('"vmfs"', '"monolithicFlat"').replace('vmdk"\n\n# Ch', 'vmdk" 0\n\n# Ch')])
@pytest.mark.parametrize("size", [512, 1024, 64 * 1024 + 512, 1 << 20, 100 << 30])
def test_qemu_accepts_what_is_written(tmp_path: Path, size: int, original: str | None, thin: bool):
    flat, descriptor, raw = tmp_path / "a b'ö-flat.vmdk", tmp_path / "a b'ö.vmdk", tmp_path / "same.img"
    for file in (flat, raw):
        with file.open("wb") as disk:
            disk.truncate(size)
            disk.write(b"boot sector")
    text = render_descriptor(flat_name=flat.name, size=size, thin=thin, original=original)
    descriptor.write_text(text, encoding="utf-8")
    info = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", "--output=json", descriptor], check=True, capture_output=True, text=True
    )
    assert f'"virtual-size": {size},' in info.stdout
    if size < 1 << 30:
        subprocess.run(["qemu-img", "compare", "-f", "vmdk", "-F", "raw", descriptor, raw], check=True, capture_output=True)
    again = parse_descriptor(text, "x")
    assert again.size == size
    assert why_not_flat(again) is None
    assert dict(again.ddb).get("ddb.thinProvisioned") == ("1" if thin else None)


def test_the_original_keeps_its_identity_and_loses_its_company():
    text = render_descriptor(flat_name="new-flat.vmdk", size=4 << 30, thin=False, original=ESX)
    found = parse_descriptor(text, "x")
    kept = dict(found.ddb)
    assert found.cid == "7ac2e0b1"
    assert kept["ddb.longContentID"] == "0123456789abcdef0123456789abcdef"
    assert kept["ddb.uuid"].startswith("60 00 C2 9b")
    assert kept["ddb.virtualHWVersion"] == "8"
    assert "ddb.sidecars" not in kept
    assert "CRM-" not in text
    assert 'RW 8388608 VMFS "new-flat.vmdk"\n' in text


def test_a_snapshot_comes_back_without_its_parent():
    child = changed("parentCID=ffffffff", 'parentCID=00000001\nparentFileNameHint="base.vmdk"')
    found = parse_descriptor(render_descriptor(flat_name="x-flat.vmdk", size=512, thin=False, original=child), "x")
    assert (found.parent_cid, found.parent_hint) == ("ffffffff", None)


def test_values_in_another_encoding_are_left_out():
    text = render_descriptor(flat_name="x-flat.vmdk", size=512, thin=False, original=ESX + 'ddb.comment = "caf\udce9"\n')
    assert "comment" not in text
    text.encode("utf-8")


def test_a_new_disk_gets_computed_geometry_and_a_content_id_of_its_own():
    texts = [render_descriptor(flat_name="x-flat.vmdk", size=4 << 30, thin=False, original=None) for _ in range(2)]
    found = [parse_descriptor(text, "x") for text in texts]
    assert dict(found[0].ddb)["ddb.geometry.cylinders"] == "522"
    assert found[0].cid != found[1].cid


@pytest.mark.parametrize("size", [0, 1, 511, 513, (1 << 30) + 1, 1 << 63])
def test_a_size_no_descriptor_can_give_is_sent_to_a_raw_name(size: int):
    with pytest.raises(DestinationError, match=r"\.img"):
        render_descriptor(flat_name="x-flat.vmdk", size=size, thin=False, original=None)


@pytest.mark.parametrize(
    "name", ['a"b-flat.vmdk', "a\nRW 1 FLAT-flat.vmdk", "../x-flat.vmdk", "a\x1b-flat.vmdk", "\udce9-flat.vmdk", ""]
)
def test_names_that_would_break_out_of_their_quotes_are_refused(name: str):
    with pytest.raises(DestinationError) as caught:
        check_extent_name(name)
    assert str(caught.value).isprintable() or str(caught.value).count("\n") == 1
    with pytest.raises(DestinationError):
        render_descriptor(flat_name=name, size=512, thin=False, original=None)


def test_names_of_the_two_files():
    assert flat_name_for("CRM.vmdk") == "CRM-flat.vmdk"
    assert flat_name_for("CRM.VMDK") == "CRM-flat.VMDK"
    for name in ("CRM.vmdk", "a.b.VMDK"):
        assert descriptor_name_for(flat_name_for(name)) == name


def test_load_reads_from_the_start_whatever_was_read_before(tmp_path: Path):
    file = tmp_path / "CRM.vmdk"
    file.write_text(ESX)
    fd = os.open(file, os.O_RDONLY)
    try:
        os.lseek(fd, 100, os.SEEK_SET)
        assert load_descriptor(fd, "x").cid == "7ac2e0b1"
    finally:
        os.close(fd)
