from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.disk.encodings import read_text, readings
from restore_core.disk.vmdk import load_descriptor, parse_descriptor, render_descriptor
from restore_core.errors import BadData

TEXT = """# Disk DescriptorFile
version=1
encoding="{label}"
CID=fffffffe
parentCID=ffffffff
createType="vmfs"
RW 2048 VMFS "{name}"
ddb.comment = "{name}"
"""


def written(folder: Path, label: str, name: str, codec: str, *, bom: bytes = b"") -> int:
    path = folder / "x.vmdk"
    path.write_bytes(bom + TEXT.format(label=label, name=name).encode(codec))
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize(
    ("label", "name", "codec"),
    [
        ("windows-1252", "Büro-flat.vmdk", "cp1252"),
        ("WINDOWS-1251", "Учёт-flat.vmdk", "cp1251"),
        ("GBK", "联通-flat.vmdk", "gbk"),
        ("windows-936", "联通-flat.vmdk", "gbk"),
        ("gb2312", "朱镕基-flat.vmdk", "gbk"),
        ("Shift_JIS", "表計算-flat.vmdk", "shift_jis"),
        ("Shift_JIS", "①-flat.vmdk", "cp932"),
        ("windows-932", "能力-flat.vmdk", "cp932"),
        ("ibm-943_P15A-2003", "能力-flat.vmdk", "cp932"),
        ("Big5", "會計-flat.vmdk", "big5"),
        ("EUC-KR", "회계-flat.vmdk", "euc-kr"),
        ("ISO-8859-1", "Büro-flat.vmdk", "latin-1"),
        ("UTF-8", "Büro-flat.vmdk", "utf-8"),
    ],
)
def test_the_encoding_that_a_descriptor_names_is_heeded(tmp_path: Path, label: str, name: str, codec: str) -> None:
    found = load_descriptor(written(tmp_path, label, name, codec), "x", lambda there: there == name)
    assert found.extents[0].file == name
    assert render_descriptor(flat_name="n-flat.vmdk", size=1 << 20, thin=False, original=found.text).count(name) == 1
    assert 'encoding="UTF-8"' in render_descriptor(flat_name="n-flat.vmdk", size=1 << 20, thin=False, original=found.text)


@pytest.mark.parametrize("label", ["windows-1252", "GBK", "Shift_JIS", "no-such", "rot13", "utf-16"])
def test_a_descriptor_in_utf8_with_a_wrong_label_finds_the_file_that_is_there(tmp_path: Path, label: str) -> None:
    found = load_descriptor(written(tmp_path, label, "Büro-flat.vmdk", "utf-8"), "x", lambda name: name == "Büro-flat.vmdk")
    assert found.extents[0].file == "Büro-flat.vmdk"


def test_a_label_of_utf8_over_other_bytes_finds_the_file_with_these_bytes(tmp_path: Path) -> None:
    found = load_descriptor(written(tmp_path, "UTF-8", "Büro-flat.vmdk", "cp1252"), "x")
    assert found.extents[0].file == "B\udcfcro-flat.vmdk"


@pytest.mark.parametrize(("bom", "codec"), [(b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, bom: bytes, codec: str) -> None:
    found = load_descriptor(written(tmp_path, "windows-1252", "Büro-flat.vmdk", codec, bom=bom), "x")
    assert found.extents[0].file == "Büro-flat.vmdk"


def test_an_unknown_encoding_is_named_where_it_matters(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="encoding 'x-klingon' is not known"):
        load_descriptor(written(tmp_path, "x-klingon", "Büro-flat.vmdk", "cp1252"), "x", lambda _name: False)
    found = load_descriptor(written(tmp_path, "x-klingon", "plain-flat.vmdk", "ascii"), "x", lambda _name: True)
    assert found.extents[0].file == "plain-flat.vmdk"


def test_a_mark_at_the_start_of_a_descriptor_is_no_setting() -> None:
    assert parse_descriptor("\ufeff" + TEXT.format(label="UTF-8", name="a-flat.vmdk"), "x").extents[0].file == "a-flat.vmdk"


@given(st.binary(max_size=300), st.sampled_from(["UTF-8", "GBK", "Shift_JIS", "windows-1252", "utf-7", "idna", "nonsense"]))
def test_any_bytes_have_a_reading(data: bytes, label: str) -> None:
    whole = f'encoding="{label}"\n'.encode() + data
    texts, _unknown = readings(whole)
    assert texts
    assert read_text(whole, "x", lambda text: text) in texts or label == "nonsense"
