"""Which Deltas bring back a whole VM."""

from __future__ import annotations

import datetime as dt

import pytest

from phd_daemon.operations.backups import newest_common_set, runs_of_vm
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


def test_the_newest_run_with_all_disks_and_no_full() -> None:
    first = [entry("00-a.vmdk", day=1), entry("01-b.vmdk", day=1)]
    second = [entry("01-b.vmdk", day=3), entry("00-a.vmdk", day=3)]
    lone = [entry("00-a.vmdk", day=5), entry("00-a.vmdk", day=6), entry("00-a", day=9)]
    found = newest_common_set([*lone, *first, *second], vm="CRM")
    assert found.entries == (second[1], second[0])
    assert found.newer == (lone[1], lone[0])
    assert newest_common_set([*lone, *first, *second], vm="CRM", at=second[0].time).newer == ()


def test_a_run_without_a_disk_that_had_a_backup_is_taken_only_when_it_is_named() -> None:
    held = [entry("01-b.vmdk", day=3), entry("00-a.vmdk", day=2)]
    with pytest.raises(UsageError, match=r"2007-09-03 03:00 UTC: b\.vmdk; 2007-09-02 03:00 UTC: a\.vmdk") as caught:
        newest_common_set(held, vm="CRM")
    assert "--at" in (caught.value.remedy or "")
    assert newest_common_set(held, vm="CRM", at=held[0].time).entries == (held[0],)


def test_a_disk_that_came_later_is_no_reason_to_refuse_an_earlier_run() -> None:
    held = [entry("00-a.vmdk", day=1), entry("00-a.vmdk", day=2), entry("01-b.vmdk", day=2)]
    assert newest_common_set(held, vm="CRM").entries == (held[1], held[2])
    assert newest_common_set(held, vm="CRM", at=held[0].time).entries == (held[0],)


def test_the_runs_to_choose_from_are_those_that_a_time_takes() -> None:
    whole = [entry("00-a.vmdk", day=1), entry("01-b.vmdk", day=1), entry("00-a.vmdk", day=3), entry("01-b.vmdk", day=3)]
    alone = [entry("00-a.vmdk", day=2), entry("00-a.vmdk", day=4)]
    runs = runs_of_vm([*alone, *whole, entry("00-a", day=9)], vm="CRM")
    assert [[one.time.day for one in run.entries] for run in runs] == [[3, 3], [1, 1]]
    assert [run.newer for run in runs] == [(alone[1],), (alone[0],)]
    assert [run.entries for run in runs_of_vm(alone, vm="CRM")] == [(alone[1],), (alone[0],)]


def test_at_or_before() -> None:
    held = [entry("00-a.vmdk", day=day) for day in (1, 2, 3)]
    exactly = dt.datetime(2007, 9, 2, 3, tzinfo=dt.UTC)
    assert newest_common_set(held, vm="CRM", at=exactly).entries == (held[1],)
    assert newest_common_set(held, vm="CRM", at=exactly - dt.timedelta(minutes=1)).entries == (held[0],)
    with pytest.raises(ArchiveAbsent, match="at or before 2007-08-01"):
        newest_common_set(held, vm="CRM", at=dt.datetime(2007, 8, 1, tzinfo=dt.UTC))


def test_two_vms_of_one_name_are_never_mixed() -> None:
    held = [entry("00-a.vmdk", day=1), entry("00-a.vmdk", day=2, uuid=B)]
    with pytest.raises(UsageError, match=f"several VMs are named CRM: {A}, {B}"):
        newest_common_set(held, vm="CRM")
    assert newest_common_set(held, vm="CRM", uuid=A).entries == (held[0],)
    assert newest_common_set(held, vm="CRM", uuid=A.upper()).entries == (held[0],)


def test_the_same_backup_on_two_targets_counts_once() -> None:
    held = [entry("00-a.vmdk", day=1), entry("00-a.vmdk", day=1, target="u")]
    assert newest_common_set(held, vm="CRM").entries == (held[0],)


def test_two_disks_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two disks of CRM are named a\.vmdk"):
        newest_common_set([entry("00-a.vmdk", day=1), entry("01-a.vmdk", day=1)], vm="CRM")


def test_another_vm_is_not_touched() -> None:
    with pytest.raises(ArchiveAbsent, match="no Delta of the VM CRM is on any target"):
        newest_common_set([entry("00-a.vmdk", day=1, vm="CRM2")], vm="CRM")
