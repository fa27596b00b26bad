from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.disk.vmx import parse_vmx
from restore_core.errors import BadData

ESX = """#!/usr/bin/vmware
.encoding = "UTF-8"
displayName = "CRM |22live|22"
uuid.bios = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"
scsi0.present = "TRUE"
scsi1:0.fileName = "CRM_2.vmdk"
scsi0:10.present = "TRUE"
scsi0:10.fileName = "CRM_1.vmdk"
SCSI0:2.FILENAME = "/vmfs/volumes/ISCSI02/other/data.vmdk"
scsi0:0.present = "true"
scsi0:0.fileName = "CRM.vmdk"
scsi0:0.deviceType = "scsi-hardDisk"
sata0:0.fileName = "CRM_3.vmdk"
"""


def scsi_ids(text: str) -> list[str]:
    return [disk.scsi for disk in parse_vmx(text, "x").disks]


def test_every_fact_of_a_vmx():
    found = parse_vmx(ESX, "CRM.vmx")
    assert found.display_name == 'CRM "live"'
    assert found.uuid_bios == "564d122a-0ed7-3b92-2f46-aee9456b2074"
    assert [(disk.scsi, disk.file) for disk in found.disks] == [
        ("00", "CRM.vmdk"),
        ("02", "/vmfs/volumes/ISCSI02/other/data.vmdk"),
        ("010", "CRM_1.vmdk"),
        ("10", "CRM_2.vmdk"),
        ("sata00", "CRM_3.vmdk"),
    ]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing():
    assert parse_vmx("\ufeff" + ESX.replace("\n", "\r\n"), "x") == parse_vmx(ESX, "x")


@pytest.mark.parametrize(
    "lines",
    [
        'scsi0:5.present = "FALSE"\nscsi0:5.fileName = "old.vmdk"',
        'ide1:0.present = "TRUE"\nide1:0.fileName = "tools"\nide1:0.deviceType = "cdrom-image"',
        'ide1:0.fileName = "x"\nide1:0.deviceType = "atapi-cdrom"',
        'ide1:0.present = "TRUE"\nide1:0.fileName = "linux.ISO"',
        'ide1:0.fileName = "auto detect"',
        'scsi0:6.fileName = "/vmfs/devices/genscsi/1"\nscsi0:6.deviceType = "scsi-passthru"',
        'scsi2.present = "FALSE"\nscsi2:0.fileName = "x.vmdk"',
        'scsi0:7.present = "TRUE"',
        'scsi0:8.fileName = ""',
        'floppy0.fileName = "/dev/fd0"',
        '# scsi0:9.fileName = "x.vmdk"',
        'xscsi0:9.fileName = "x.vmdk"',
    ],
)
def test_what_is_no_disk_is_left_out(lines: str):
    assert scsi_ids(ESX + lines + "\n") == scsi_ids(ESX)


def test_a_disk_without_a_present_line_counts():
    assert scsi_ids('nvme0:1.fileName = "x.vmdk"') == ["nvme01"]


def test_a_vmx_without_name_uuid_and_disks_is_still_one():
    found = parse_vmx('memsize = "512"\n', "x")
    assert (found.display_name, found.uuid_bios, found.disks) == (None, None, ())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("hello\n", "x:1: not a line of a VMX: hello"),
        ("\nab\x1b[2J\n", "x:2: not a line of a VMX: ab%1B[2J"),
        ('a = "\0"', "x:1: not a line"),
        ('scsi0:0.fileName = "a|00.vmdk"', "x:1: not a line"),
        ('uuid.bios = "not one"', "expected 32 hex digits"),
        ('scsi0:0.fileName = "a.vmdk"\nSCSI0:0.filename = "b.vmdk"', "x:2: scsi0:0.filename is given twice"),
        ('scsi12:0.fileName = "a.vmdk"', "scsi12:0"),
        ('scsi0:1000.fileName = "a.vmdk"', "scsi0:1000"),
        ("# \n" * 500_000, "at most"),
    ],
)
def test_nonsense_is_refused(text: str, names: str):
    with pytest.raises(BadData, match=re.escape(names)):
        parse_vmx(text, "x")


@given(st.text(max_size=400))
def test_any_text_is_a_vmx_or_bad_data(text: str):
    for candidate in (text, ESX + text, f'scsi0:0.fileName = "{text}"'):
        with contextlib.suppress(BadData):
            parse_vmx(candidate, "x")
