"""Which Deltas bring back a whole VM."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from pathlib import Path

import pytest

from phd_daemon.operations.backups import newest_common_set, runs_of_vm
from phd_daemon.operations.vm_disks import DisksAt, VmDisks, disks_at
from restore_core.catalog import CatalogEntry, entries
from restore_core.errors import ArchiveAbsent, UsageError
from restore_core.naming import parse_archive, parse_folder
from restore_core.targets.base import ArchiveRef, FileStat
from tests.lab import Lab
from tests.restore_core.backup.test_left_out import backed_up, vm_in

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


def vm_had(*scsi: str, without: tuple[str, ...] = ()) -> DisksAt:
    return lambda _entry: VmDisks(backed_up=frozenset(scsi), left_out=without)


def test_a_disk_that_was_removed_from_the_vm_holds_back_no_newer_run_and_is_named() -> None:
    old, new = [entry("00-a.vmdk", day=1), entry("01-b.vmdk", day=1)], entry("00-a.vmdk", day=2)
    with_it = newest_common_set([*old, new], vm="CRM")
    assert with_it.entries == tuple(old)
    without = newest_common_set([*old, new], vm="CRM", disks_of=vm_had("00"))
    assert (without.entries, without.missing, without.newer) == ((new,), (old[1],), ())
    assert without.not_in_it == (f"not in this backup: b.vmdk (scsi0:1), last backed up 2007-09-01 03:00 UTC, {old[1].ref}",)
    assert [run.entries for run in runs_of_vm([*old, new], vm="CRM", disks_of=vm_had("00"))] == [(new,), tuple(old)]


def test_a_disk_that_is_left_out_of_every_backup_is_named_and_holds_back_nothing() -> None:
    held = [entry("00-a.vmdk", day=1), entry("00-a.vmdk", day=2)]
    found = newest_common_set(held, vm="CRM", disks_of=vm_had("00", without=("scsi0:1",)))
    assert found.entries == (held[1],)
    assert found.not_in_it == ("left out of this backup: scsi0:1",)


def test_a_disk_that_was_left_out_and_has_an_older_backup_is_named_once() -> None:
    held = [entry("00-a.vmdk", day=1), entry("01-b.vmdk", day=1), entry("00-a.vmdk", day=2)]
    found = newest_common_set(held, vm="CRM", disks_of=vm_had("00", without=("SCSI0:1", "sata0:0")))
    assert found.not_in_it == (
        f"left out of this backup: b.vmdk (scsi0:1), last backed up 2007-09-01 03:00 UTC, {held[1].ref}",
        "left out of this backup: sata0:0",
    )


def test_of_two_disks_that_had_the_place_one_after_the_other_the_last_is_the_one_that_was_left_out() -> None:
    held = [entry("01-c.vmdk", day=1), entry("01-b.vmdk", day=2), entry("00-a.vmdk", day=3)]
    found = newest_common_set(held, vm="CRM", disks_of=vm_had("00", without=("scsi0:1",)))
    assert [line.split(" (")[0] for line in found.not_in_it] == ["not in this backup: c.vmdk", "left out of this backup: b.vmdk"]


def test_a_disk_that_is_in_the_run_is_not_said_to_be_left_out_of_it() -> None:
    held = [entry("00-a.vmdk", day=1), entry("01-b.vmdk", day=1)]
    assert newest_common_set(held, vm="CRM", disks_of=vm_had("00", without=("scsi0:1",))).not_in_it == ()


def test_a_disk_that_older_versions_called_by_its_flat_file_is_the_same_disk() -> None:
    """Its old backups were those of a disk that is gone: no run held every disk, or the older one was taken."""
    old, new = entry("00-a-flat.vmdk", day=1), entry("00-a.vmdk", day=2)
    found = newest_common_set([old, new], vm="CRM")
    assert (found.entries, found.missing) == ((new,), ())
    assert [run.entries for run in runs_of_vm([old, new], vm="CRM")] == [(new,), (old,)]
    with pytest.raises(UsageError, match=r"two disks of CRM are named a\.vmdk"):
        newest_common_set([entry("00-a.vmdk", day=1), entry("01-a-flat.vmdk", day=1)], vm="CRM")


def random_history(seed: int) -> tuple[list[CatalogEntry], DisksAt]:
    """Runs of some of four disks, of some of which it is known which disks the VM had then."""
    chance = random.Random(seed)
    held = [
        entry(f"0{disk}-{letter}.vmdk", day=day)
        for day in chance.sample(range(1, 28), chance.randint(0, 12))
        for disk, letter in chance.sample(list(enumerate("abcd")), chance.randint(1, 4))
    ]
    known = {
        one.ref: VmDisks(backed_up=frozenset(f"0{disk}" for disk in chance.sample(range(4), chance.randint(0, 3))), left_out=())
        for one in held
        if chance.random() < 0.4
    }
    return held, lambda one: known.get(one.ref)


def test_the_runs_are_those_of_each_time_for_itself_whatever_the_history() -> None:
    kinds = set()
    for seed in range(200):
        held, had = random_history(seed)
        times = sorted({one.time for one in held}, reverse=True)
        each = [newest_common_set(held, vm="CRM", at=time, disks_of=had) for time in times]
        wanted = {run.entries: run for run in reversed(each)}
        found = runs_of_vm(held, vm="CRM", disks_of=had)
        assert found == [wanted[entries] for entries in dict.fromkeys(run.entries for run in each)], seed
        kinds |= {(bool(run.newer), bool(run.missing)) for run in found}
    assert len(kinds) == 4


def test_of_many_runs_none_is_looked_at_more_than_once() -> None:
    looked: Counter[ArchiveRef] = Counter()
    held = [entry(f"0{day % 2}-{'ab'[day % 2]}.vmdk", day=day) for day in range(1, 29)]

    def count(one: CatalogEntry) -> VmDisks | None:
        looked[one.ref] += 1
        return None

    runs = runs_of_vm(held, vm="CRM", disks_of=count)
    # Once in the search and once for what was left out of it.
    assert len(runs) == len(held)
    assert max(looked.values()) <= 2


def test_a_disk_that_was_backed_up_alone_is_still_no_whole_vm() -> None:
    held = [entry("00-a.vmdk", day=1), entry("01-b.vmdk", day=1), entry("00-a.vmdk", day=2)]
    found = newest_common_set(held, vm="CRM", disks_of=vm_had("00", "01"))
    assert (found.entries, found.newer) == ((held[0], held[1]), (held[2],))


def test_a_run_that_is_named_by_its_time_names_the_disk_that_it_lacks() -> None:
    held = [entry("01-b.vmdk", day=2), entry("00-a.vmdk", day=3)]
    found = newest_common_set(held, vm="CRM", at=held[1].time)
    assert (found.entries, found.missing) == ((held[1],), (held[0],))
    assert "not in this backup: b.vmdk (scsi0:1)" in found.not_in_it[0]


def test_the_disks_of_a_vm_are_read_from_the_vmx_in_its_backup(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    vmx = vm_in(tmp_path / "ds" / "CRM")
    made = backed_up(lab, vmx, skip=("scsi0:1",))
    lone = backed_up(lab, vmx.with_name("CRM_1.vmdk"), hours=1)
    found = {each.ref: each for each in entries(lab.targets["t"])}
    look = disks_at(lab.targets)
    assert look(found[made.delta]) == VmDisks(backed_up=frozenset({"00"}), left_out=("scsi0:1",))
    assert look(found[lone.delta]) == VmDisks(backed_up=frozenset({"00", "01"}), left_out=())
    assert newest_common_set(found.values(), vm="CRM", disks_of=look).entries == (found[made.delta],)
    lab.path(made.delta).write_bytes(b"damaged")
    assert disks_at(lab.targets)(found[made.delta]) is None
