"""A partial listing renews what it tells and keeps the rest, marked; an emptied target is not believed until a person says so."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.catalog.held import read_held
from restore_core.catalog.index import Catalog, Indexed
from restore_core.catalog.listing import listing_path
from restore_core.errors import TargetUnavailable
from restore_core.targets.base import FileStat, ListedFile, Target, TargetSpec
from restore_core.targets.gaps import Gap, GapKind
from restore_core.targets.kinds import make_target

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
MONDAY, TUESDAY, MAIL = f"2026.01.05-CRM.{UUID}", f"2026.01.06-CRM.{UUID}", f"2026.01.06-Mail.{UUID[:-1]}9"
FULL, DELTA = "00-CRM.vmdk.gz-260105-0300.phd", "00-CRM.vmdk.delta-2026.01.06-0300-260105-0300.phd"
ALL = (f"{MONDAY}/{FULL}", f"{TUESDAY}/{DELTA}", f"{MAIL}/{DELTA}", f"esx1/{DELTA}", "misc/renamed.gz")
OLD = time.time() - 86400


class Told:
    """A target that tells these files, and says that these are missing."""

    def __init__(self, spec: TargetSpec, paths: tuple[str, ...], gaps: tuple[str, ...], *, young: bool = False) -> None:
        self.spec, self._paths, self._young = spec, paths, young
        self._gaps = [Gap(path=path, kind=GapKind.UNREADABLE, why="Permission denied") for path in gaps]

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        for path in self._paths:
            yield ListedFile(path=path, stat=FileStat(size=len(path), mtime=time.time() if self._young else OLD))
        if gaps is None:
            raise AssertionError("the catalog asks for gaps")
        gaps += self._gaps

    def open(self, path: str) -> None:
        raise TargetUnavailable(f"{path}: not now")

    def close(self) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path) -> Catalog:
    (tmp_path / ".state").mkdir()
    return Catalog(
        tmp_path / "catalog", [TargetSpec(name="nas1", url=f"file://{tmp_path}/nas1")], records=tmp_path / ".state" / "targets"
    )


def index(cache: Catalog, paths: tuple[str, ...], *gaps: str, young: bool = False) -> Indexed:
    def told(spec: TargetSpec) -> Target:
        return Told(spec, paths, gaps, young=young)  # type: ignore[return-value]  # as much of a target as is asked

    return cache.index(told)[0]


def without(*left_out: str) -> tuple[str, ...]:
    return tuple(path for path in ALL if not path.startswith(left_out))


def stale(cache: Catalog) -> dict[str, bool]:
    return {entry.ref.path: entry.stale for entry in cache.entries()}


ARCHIVES = ALL[:4]


@pytest.mark.parametrize("folder", [MONDAY, TUESDAY, MAIL, "esx1"])
def test_a_folder_that_cannot_be_read_keeps_what_was_known_of_it(cache: Catalog, folder: str) -> None:
    """It was forgotten with everything in it (FTP), or nothing was renewed at all (file, SFTP)."""
    index(cache, ALL)
    new = f"{TUESDAY}/{DELTA.replace('0300-', '0900-', 1)}"
    known = index(cache, (*without(folder), new), folder)
    assert stale(cache) == {path: path.startswith(folder) for path in ARCHIVES} | {new: False}
    assert (known.archives, known.problem) == (5, "")
    assert known.partial == f"target nas1: its listing is partial: {folder}: Permission denied"
    assert known.trouble == known.partial
    assert known.head is not None
    assert known.head.stale == 1
    complete = index(cache, without(folder))
    assert (complete.trouble, complete.archives) == ("", 3)
    assert stale(cache) == dict.fromkeys((path for path in ARCHIVES if not path.startswith(folder)), False)


def test_a_part_of_the_targets_own_folder_keeps_whole_folders(cache: Catalog) -> None:
    index(cache, ALL)
    known = index(cache, (f"{MAIL}/{DELTA.replace('0300', '0400')}",), "")
    assert stale(cache) == {
        f"{MONDAY}/{FULL}": True,
        f"{TUESDAY}/{DELTA}": True,
        f"esx1/{DELTA}": True,
        f"{MAIL}/{DELTA.replace('0300', '0400')}": False,  # that folder was told, and what is not in it any more is gone
    }
    assert known.archives == 4


def test_one_file_behind_a_link_keeps_no_other(cache: Catalog) -> None:
    index(cache, (*ALL, f"{MONDAY}/{DELTA}"))
    index(cache, without(MONDAY), f"{MONDAY}/{FULL}")
    assert stale(cache) == {f"{MONDAY}/{FULL}": True} | dict.fromkeys(ARCHIVES[1:], False)


def test_since_when_stays(cache: Catalog) -> None:
    index(cache, ALL)
    first = index(cache, without(MONDAY), MONDAY)
    marks = listing_path(cache.folder, "nas1").read_text()
    time.sleep(1.1)
    again = index(cache, without(MONDAY), MONDAY)
    assert [gap.since for gap in again.gaps] == [gap.since for gap in first.gaps]
    line = next(text for text in marks.splitlines() if FULL in text)
    assert line in listing_path(cache.folder, "nas1").read_text().splitlines()


def test_a_folder_of_others_is_a_note_and_keeps_what_it_had(cache: Catalog) -> None:
    """A Full that was renamed may lie anywhere; but a root-only lost+found must not ring for ever."""
    index(cache, ALL)
    known = index(cache, without("misc"), "misc", "lost+found")
    assert known.trouble == ""
    assert known.head is not None
    assert [str(note.gap) for note in known.head.notes] == ["misc: Permission denied", "lost+found: Permission denied"]
    assert [ref.path for ref, _ in cache.of_size(len("misc/renamed.gz"))] == ["misc/renamed.gz"]


def test_a_folder_that_held_archives_counts_whatever_its_name(cache: Catalog) -> None:
    assert index(cache, without("esx1"), "esx1").trouble == ""  # nobody knows of any in it
    index(cache, ALL)
    assert "esx1" in index(cache, without("esx1"), "esx1").trouble
    assert "esx1" in index(cache, without("esx1"), "esx1").trouble


def test_a_stale_file_that_comes_back_is_as_any_other(cache: Catalog) -> None:
    index(cache, ALL, young=True)
    index(cache, without(MONDAY), MONDAY)
    assert stale(cache)[f"{MONDAY}/{FULL}"]
    assert not next(entry for entry in cache.entries() if entry.stale).settled  # it might have grown when it was seen last
    index(cache, ALL, young=True)
    assert not any(stale(cache).values())
    index(cache, ALL)
    assert all(entry.settled for entry in cache.entries())


def test_a_partial_listing_is_looked_at_again_soon(cache: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore_core.catalog.index._QUICK", 0.0)
    index(cache, ALL)
    assert cache.old(max_age=9999, now=time.time()) == []
    index(cache, without(MONDAY), MONDAY)
    assert cache.old(max_age=9999, now=time.time()) == []
    assert cache.old(max_age=9999, now=time.time() + 61) == ["nas1"]


def test_thousands_of_gaps_are_one_partial_listing(cache: Catalog) -> None:
    folders = [f"2026.01.05-\udcff{'ä' * 100}{number}.{UUID}" for number in range(3000)]
    index(cache, ALL)
    known = index(cache, (), *folders, MONDAY)
    assert known.head is not None
    assert len(known.gaps) > 5
    assert (known.archives, known.problem) == (1, "")


# A target that held archives and holds none.


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    for path in ALL:
        file = tmp_path / "nas1" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path / "nas1"


def look(cache: Catalog) -> Indexed:
    return cache.index(make_target)[0]


def test_an_emptied_target_is_not_believed(cache: Catalog, nas: Path) -> None:
    """An empty mount point answered with 0 archives, and everything was forgotten."""
    look(cache)
    shutil.rmtree(nas)
    nas.mkdir()
    for _ in range(2):
        known = look(cache)
        assert known.archives == 4
        assert known.problem.endswith("held 4 archives, holds none: is it mounted?")
        assert all(stale(cache).values())
        assert len(stale(cache)) == 4


def test_nor_is_it_where_the_cache_was_deleted(cache: Catalog, nas: Path) -> None:
    look(cache)
    shutil.rmtree(cache.folder)
    shutil.rmtree(nas)
    (nas / "lost+found").mkdir(parents=True)
    known = look(cache)
    assert (known.head, known.archives) == (None, 0)
    assert "held 4 archives, holds none" in known.problem


def test_nor_where_there_is_no_place_for_a_record(cache: Catalog, nas: Path) -> None:
    alone = Catalog(cache.folder, cache.specs)
    look(alone)
    shutil.rmtree(nas)
    nas.mkdir()
    assert "held 4 archives" in look(alone).problem
    assert alone.accept(make_target, alone.specs[0]).trouble == ""
    assert look(alone).trouble == ""


def test_a_person_accepts_it_and_once_there_are_archives_again_it_starts_anew(cache: Catalog, nas: Path) -> None:
    look(cache)
    away = nas.with_name("away")
    nas.rename(away)
    nas.mkdir()
    look(cache)
    known = cache.accept(make_target, cache.specs[0])
    assert (known.trouble, known.archives) == ("", 0)
    assert look(cache).trouble == ""
    shutil.rmtree(cache.folder)
    assert look(cache).trouble == ""  # the acceptance outlives the cache
    nas.rmdir()
    away.rename(nas)
    assert (look(cache).trouble, look(cache).archives) == ("", 4)
    shutil.rmtree(nas)
    nas.mkdir()
    assert "held 4 archives" in look(cache).problem


def test_what_was_seen_later_counts_where_the_record_cannot_be_written(cache: Catalog, nas: Path) -> None:
    """An operator may index, and may not write into the spool's own corner."""
    away = nas.with_name("away")
    look(cache)
    nas.rename(away)
    nas.mkdir()
    cache.accept(make_target, cache.specs[0])
    nas.rmdir()
    away.rename(nas)
    assert cache.records is not None
    record = (cache.records / "nas1.json").read_bytes()
    look(cache)
    (cache.records / "nas1.json").write_bytes(record)
    assert cache.held(cache.specs[0]) == 4
    shutil.rmtree(nas)
    nas.mkdir()
    assert "held 4 archives" in look(cache).problem


def test_a_part_that_tells_of_no_archive_says_nothing_of_what_it_held(cache: Catalog) -> None:
    index(cache, ALL)
    shutil.rmtree(cache.folder)
    assert index(cache, (), MONDAY).problem == ""  # in part, and none of it is an archive
    assert "held 4 archives, holds none" in index(cache, ()).problem


def test_a_record_of_another_url_or_a_torn_one_says_nothing(cache: Catalog, nas: Path) -> None:
    look(cache)
    assert cache.records is not None
    record = cache.records / "nas1.json"
    assert json.loads(record.read_bytes())["archives"] == 4
    moved = TargetSpec(name="nas1", url="file:///elsewhere")
    assert read_held(cache.records, moved) is None
    whole = record.read_bytes()
    for end in (0, 5, len(whole) // 2):
        record.write_bytes(whole[:end])
        assert read_held(cache.records, cache.specs[0]) is None
        assert cache.held(cache.specs[0]) == 4  # by the cache
    assert nas.exists()


def test_a_new_target_may_be_empty(cache: Catalog, nas: Path) -> None:
    shutil.rmtree(nas)
    nas.mkdir()
    assert look(cache).trouble == ""


def test_a_mount_point_that_is_not_mounted_has_never_been_the_target(
    cache: Catalog, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in /etc/fstab, and not there: what lies below is another disk, the first time, too."""
    monkeypatch.setattr("restore_core.targets.local.unmounted_mount_point", str)
    known = look(cache)
    assert known.problem == f"target nas1 (file://{nas}): nothing is mounted at {nas}"
    target = make_target(cache.specs[0])
    with pytest.raises(TargetUnavailable, match="nothing is mounted") as caught:
        target.create(f"{MONDAY}/new.phd")
    assert caught.value.try_again
    with pytest.raises(TargetUnavailable, match="nothing is mounted"):
        target.open(f"{MONDAY}/absent.phd")
    assert sorted(path.name for path in (nas / MONDAY).iterdir()) == [FULL]
