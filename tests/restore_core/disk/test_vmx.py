from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.disk.vmx import VmxFile, parse_vmx
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


@pytest.mark.parametrize(
    "line",
    [
        'scsi0:0.fileName = "a.vmdk" # boot',
        'scsi0:0.fileName = "a.vmdk"# boot "quoted"',
        "scsi0:0.fileName = a.vmdk",
        "scsi0:0.fileName=a.vmdk\t# boot",
        '   SCSI0:0.FILENAME\t=\t"a.vmdk"   ',
        'scsi0:0.fileName = "a|2Evmdk"',
    ],
)
def test_a_comment_spaces_case_and_missing_quotes_change_nothing(line: str):
    assert [disk.file for disk in parse_vmx(line + "\n", "x").disks] == ["a.vmdk"]


def test_a_comment_sign_inside_quotes_belongs_to_the_name():
    assert [disk.file for disk in parse_vmx('scsi0:0.fileName = "a # 1.vmdk" # one', "x").disks] == ["a # 1.vmdk"]


@pytest.mark.parametrize("no", ['"FALSE" # retired', "FALSE", '"false"', '"0"', '"no" #', "False # x"])
def test_an_absent_disk_is_left_out_however_its_absence_is_written(no: str):
    assert scsi_ids(ESX + f'scsi0:1.present = {no}\nscsi0:1.fileName = "b.vmdk"\n') == scsi_ids(ESX)


def test_the_uuid_may_have_a_comment_behind_it():
    found = parse_vmx('uuid.bios = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74" # do not change\n', "x")
    assert found.uuid_bios == "564d122a-0ed7-3b92-2f46-aee9456b2074"


@pytest.mark.parametrize(
    "line",
    [
        "snapshot.disabled",
        "just words",
        'annotation = "half',
        'annotation = "a" b',
        'memsize = "512"\nmemsize = "1024"',
        'scsi0:0.redo = "a"\nscsi0:0.redo = "b"',
        'guestinfo.x = "a|00b"',
        "= 5",
    ],
)
def test_a_wrong_line_that_concerns_no_disk_is_a_warning_with_its_number(line: str):
    found = parse_vmx(ESX + line + "\n", "CRM.vmx")
    assert found.disks == parse_vmx(ESX, "x").disks
    assert re.fullmatch(r"CRM\.vmx:1[45]: .*", found.warnings[0])


@pytest.mark.parametrize(
    "line",
    [
        "scsi0:1.fileName",
        'scsi0:1.fileName = "b.vmdk',
        'scsi0:1.fileName = "b.vmdk" and more',
        'scsi0:1 fileName = "b.vmdk"',
        '"scsi0:1.fileName" = "b.vmdk"',
        'scsi0.present = "TRUE',
        'uuid.bios = "56 4d',
        'uuid.bios = "00 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"',
        'scsi0:0.fileName = "other.vmdk"',
        'scsi0:0.present = "FALSE"',
        'scsi0:10.present = "FLASE"',
        'sata0:0.present = "maybe"',
    ],
)
def test_a_wrong_line_that_concerns_a_disk_or_the_uuid_is_refused_by_name(line: str):
    with pytest.raises(BadData) as caught:
        parse_vmx(ESX + line + "\n", "CRM.vmx")
    assert re.search("scsi0|uuid.bios|sata0", caught.value.message)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('scsi0:1.present = "TRUE"\nscsi0:1.name = "vmhba0:0:0:5:a.vmdk"', "ESX 2"),
        ('scsi0:1.fileName = "vmhba0:0:0:5:a.vmdk"', "ESX 2"),
        ('scsi0:1.fileName = "[ds1] vm/a.vmdk"', "vSphere"),
        ('scsi0:1.fileName = "C:\\VMs\\a.vmdk"', "Windows"),
        ('scsi0:1.fileName = "d:/VMs/a.vmdk"', "Windows"),
        ('scsi0:1.fileName = "\\\\nas\\vms\\a.vmdk"', "Windows"),
        ('scsi0:1.fileName = "..\\data\\a.vmdk"', "Windows"),
        ('scsi0:1.fileName = "https://nas/a.vmdk"', "an address"),
    ],
)
def test_a_name_that_is_no_path_here_is_named(line: str, names: str):
    (trouble,) = [disk.trouble for disk in parse_vmx(ESX + line + "\n", "x").disks if disk.scsi == "01"]
    assert trouble is not None
    assert names in trouble


def test_a_cdrom_without_a_type_is_no_disk():
    more = 'ide1:0.present = "TRUE"\nide1:0.fileName = "/dev/hdc"\nide1:0.autodetect = "TRUE"\nsata0:7.fileName = "/dev/sr0"\n'
    assert scsi_ids(ESX + more) == scsi_ids(ESX)


@pytest.mark.parametrize("key", ["encryption.keySafe", "encryption.data", "Encryption.bundle"])
def test_an_encrypted_vmx_says_so(key: str):
    assert parse_vmx(ESX + f'{key} = "vmware:key/list/x"\n', "x").encrypted
    assert not parse_vmx(ESX, "x").encrypted


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1, max_size=20)
_SLOTS = st.tuples(st.sampled_from(["scsi", "sata", "ide", "nvme"]), st.integers(0, 9), st.integers(0, 999))


def _escaped(value: str) -> str:
    return "".join(f"|{ord(c):02X}" if c in '"|' or ord(c) < 32 or ord(c) == 127 else c for c in value)


@given(
    st.dictionaries(_SLOTS, _NAMES.map(lambda name: name + ".vmdk"), max_size=6),
    _NAMES,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", " # note", '#"x" = 5', "\t"]),
    st.booleans(),
)
def test_what_is_written_is_read_again(disks: dict[tuple[str, int, int], str], name: str, end: str, behind: str, upper: bool):
    rows = [("displayName", name), *((f"{bus}{c}:{u}.fileName", file) for (bus, c, u), file in disks.items())]
    text = "".join(f'{key.upper() if upper else key} = "{_escaped(value)}"{behind}{end}' for key, value in rows)
    found: VmxFile = parse_vmx("\ufeff" + text, "x")
    assert found.display_name == name
    assert {(disk.scsi, disk.file) for disk in found.disks} == {
        (f"{'' if bus == 'scsi' else bus}{c}{u}", file) for (bus, c, u), file in disks.items()
    }
    assert found.warnings == ()
