"""Names: the forms of stamps, and the one rule by which names are compared."""

from __future__ import annotations

import datetime as dt
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core import naming
from restore_core.catalog.query import matches
from restore_core.errors import NoSpace
from restore_core.targets.gaps import Gap, GapKind

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"


TIMES = st.integers(0, 36524 * 86400).map(lambda seconds: dt.datetime(2000, 1, 1) + dt.timedelta(seconds=seconds))  # noqa: DTZ001


@given(TIMES, TIMES)
def test_a_name_says_its_time_to_the_second(stamp: dt.datetime, base: dt.datetime) -> None:
    delta = naming.parse_archive(naming.delta_name(scsi="00", disk="CRM.vmdk", stamp=stamp, base=base))
    full = naming.parse_archive(naming.full_name(scsi="00", disk="CRM.vmdk", stamp=base))
    assert delta is not None
    assert full is not None
    assert (delta.stamp, delta.base_stamp, full.stamp) == (stamp, base, base)


@pytest.mark.parametrize(
    "name", ["00-a.gz-260301-03.phd", "00-a.gz-260301-03000.phd", "00-a.gz-260301-030060.phd", "00-a.gz-260301-0300000.phd"]
)
def test_a_time_of_another_length_or_no_time_is_no_archive(name: str) -> None:
    assert naming.parse_archive(name) is None


@pytest.mark.parametrize("name", ["Büro", "Ångström", "한글", "ạ̈", "\udcff-ü"])
def test_two_spellings_of_one_name_are_compared_as_one(name: str) -> None:
    assert naming.comparable(normalize("NFD", name)) == naming.comparable(normalize("NFC", name))
    assert naming.searchable(normalize("NFD", name).upper()) == naming.searchable(normalize("NFC", name))


@pytest.mark.parametrize(("one", "other"), [("ﬁ", "fi"), ("²", "2"), ("ß", "ss"), ("ü", "u"), ("Büro", "büro")])
def test_letters_that_resemble_each_other_are_not_merged(one: str, other: str) -> None:
    assert naming.comparable(one) != naming.comparable(other)
    assert not matches(one, other)


def test_a_gap_hides_the_backups_of_a_vm_in_either_spelling() -> None:
    gap = Gap(path=normalize("NFD", f"2026.11.23-Büro.{UUID}"), kind=GapKind.UNREADABLE, why="permission denied")
    assert gap.may_hide(normalize("NFC", "Büro"), UUID)
    assert not gap.may_hide("Buro", UUID)


@pytest.mark.parametrize(
    ("needed", "free", "said"),
    [
        (2 << 30, 512 << 20, "2.0 GB needed, 512.0 MB free"),
        (2 << 30, (2 << 30) - 5000, "2.0 GB needed, 2.0 GB free (4.9 KB too little)"),
        (900, 0, "900 bytes needed, 0 bytes free"),
    ],
)
def test_missing_space_is_told_in_units_that_people_read(needed: int, free: int, said: str) -> None:
    assert said in str(NoSpace(where="/x", needed=needed, free=free))


@pytest.mark.parametrize(
    ("name", "restored"),
    [
        ("a-flat.vmdk", "a.vmdk"),
        ("A-FLAT.VMDK", "A.VMDK"),
        ("a.vmdk", "a.vmdk"),
        ("a-flat.img", "a-flat.img"),
        ("flat.vmdk", "flat.vmdk"),
    ],
)
def test_a_backup_that_is_named_by_a_flat_file_is_of_the_disk_that_is_restored(name: str, restored: str) -> None:
    assert naming.restored_name(name) == restored
