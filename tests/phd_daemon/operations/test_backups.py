"""Which Deltas bring back a whole VM."""

from __future__ import annotations

import datetime as dt

import pytest

from phd_daemon.operations.backups import newest_of_each_disk
from restore_core.catalog import CatalogEntry
from restore_core.errors import ArchiveAbsent, UsageError
from restore_core.naming import parse_archive, parse_folder
from restore_core.targets.base import ArchiveRef, FileStat

A, B = "564d122a-0ed7-3b92-2f46-aee9456b2074", "564d122a-0ed7-3b92-2f46-aee9456b2075"


def entry(name: str, *, day: int, uuid: str = A, target: str = "t", vm: str = "CRM") -> CatalogEntry:
    text = f"{name}.delta-2007.09.{day:02}-0300-070901-0300.phd" if "." in name else f"{name}.vmdk.gz-0709{day:02}-0300.phd"
    found = parse_archive(text)
    assert found is not None
    folder = f"2007.09.{day:02}-{vm}.{uuid}"
    return CatalogEntry(
        ref=ArchiveRef(target=target, path=f"{folder}/{text}"),
        folder=parse_folder(folder),
        name=found,
        stat=FileStat(size=1, mtime=0),
        time=found.stamp.replace(tzinfo=dt.UTC),
    )


def test_the_newest_of_each_disk_and_no_full() -> None:
    held = [
        entry("01-b.vmdk", day=3),
        entry("00-a.vmdk", day=2),
        entry("00-a.vmdk", day=5),
        entry("00-a", day=9),
        entry("01-b.vmdk", day=1),
    ]
    assert newest_of_each_disk(held, vm="CRM") == [held[2], held[0]]


def test_at_or_before() -> None:
    held = [entry("00-a.vmdk", day=day) for day in (1, 2, 3)]
    exactly = dt.datetime(2007, 9, 2, 3, tzinfo=dt.UTC)
    assert newest_of_each_disk(held, vm="CRM", at=exactly) == [held[1]]
    assert newest_of_each_disk(held, vm="CRM", at=exactly - dt.timedelta(minutes=1)) == [held[0]]
    with pytest.raises(ArchiveAbsent, match="at or before 2007-08-01"):
        newest_of_each_disk(held, vm="CRM", at=dt.datetime(2007, 8, 1, tzinfo=dt.UTC))


def test_two_vms_of_one_name_are_never_mixed() -> None:
    held = [entry("00-a.vmdk", day=1), entry("00-a.vmdk", day=2, uuid=B)]
    with pytest.raises(UsageError, match=f"several VMs are named CRM: {A}, {B}"):
        newest_of_each_disk(held, vm="CRM")
    assert newest_of_each_disk(held, vm="CRM", uuid=A) == [held[0]]


def test_the_same_backup_on_two_targets_counts_once() -> None:
    held = [entry("00-a.vmdk", day=1), entry("00-a.vmdk", day=1, target="u")]
    assert newest_of_each_disk(held, vm="CRM") == held[:1]


def test_two_disks_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two disks of CRM are named a\.vmdk"):
        newest_of_each_disk([entry("00-a.vmdk", day=1), entry("01-a.vmdk", day=1)], vm="CRM")


def test_another_vm_is_not_touched() -> None:
    with pytest.raises(ArchiveAbsent, match="no Delta of the VM CRM is on any target"):
        newest_of_each_disk([entry("00-a.vmdk", day=1, vm="CRM2")], vm="CRM")
