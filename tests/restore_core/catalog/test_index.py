"""The cache: all targets side by side, one failure takes nothing from the others, and nothing torn is believed."""

from __future__ import annotations

import datetime as dt
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core import naming
from restore_core.catalog import entries
from restore_core.catalog.index import Catalog
from restore_core.catalog.listing import ListingWriter, listing_path, mark_changed
from restore_core.catalog.query import Query
from restore_core.errors import TargetUnavailable
from restore_core.naming import ArchiveType
from restore_core.targets.base import FileStat, ListedFile, Target, TargetSpec
from restore_core.targets.kinds import make_target
from tests.lab import Lab

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
OLD = time.time() - 86400


def put(root: Path, folder: str, name: str, *, mtime: float = OLD, size: int = 3) -> Path:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (mtime, mtime))
    return path


def delta_at(stamp: str, *, scsi: str = "00", disk: str = "CRM.vmdk") -> str:
    return naming.delta_name(scsi=scsi, disk=disk, stamp=dt.datetime.fromisoformat(stamp), base=dt.datetime(2026, 1, 1, 3))  # noqa: DTZ001


def full_at(stamp: str) -> str:
    return naming.full_name(scsi="00", disk="CRM.vmdk", stamp=dt.datetime.fromisoformat(stamp))


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    root = tmp_path / "nas1"
    put(root, f"2026.01.01-CRM.{UUID}", full_at("2026-01-01 03:00"))
    put(root, f"2026.01.01-CRM.{UUID}", delta_at("2026-01-01 03:00"))
    put(root, f"2026.01.02-CRM.{UUID}", delta_at("2026-01-02 03:00"))
    put(root, f"2026.01.02-Mail.v3.{UUID[:-1]}9", delta_at("2026-01-02 04:00", scsi="010", disk="Mail_1.vmdk"))
    put(root, "esx1", delta_at("2026-01-02 05:00"))
    put(root, "notes", "README.txt")
    put(root, ".", "00-CRM.vmdk.gz-260101-0300.phd")
    return root


def catalog(tmp_path: Path, *names: str, zone: str = "UTC") -> Catalog:
    return Catalog(
        tmp_path / "state" / "catalog",
        [TargetSpec(name=name, url=f"file://{tmp_path}/{name}", timezone=zone) for name in names or ("nas1",)],
    )


def found(cache: Catalog, query: Query | None = None) -> list[str]:
    return [entry.ref.name for entry in cache.entries(query or Query())]


@pytest.mark.usefixtures("nas")
def test_the_cache_holds_what_the_target_holds(tmp_path: Path) -> None:
    cache = catalog(tmp_path)
    assert (list(cache.entries()), cache.old(max_age=9e9, now=time.time())) == ([], ["nas1"])
    (known,) = cache.index(make_target)
    assert (known.archives, known.problem) == (5, "")
    assert known.head is not None
    assert known.head.files == 7
    assert list(cache.entries()) == list(entries(make_target(cache.specs[0])))
    assert cache.old(max_age=60, now=time.time()) == ["nas1"]  # so quick to list that it need never be old


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(vm="CRM"), 3),
        (Query(vm="*"), 5),
        (Query(vm="Mail*"), 1),
        (Query(vm="mail*"), 0),
        (Query(vm="M?il.[v]3"), 1),
        (Query(vm="esx1"), 1),
        (Query(vms=frozenset({"CRM", "esx1"})), 4),
        (Query(vmdk="CRM.vmdk"), 4),
        (Query(vmdk="*_1.vmdk"), 1),
        (Query(uuid=UUID.upper()), 3),
        (Query(uuid="564d*"), 4),
        (Query(uuid="-"), 1),
        (Query(scsi="010"), 1),
        (Query(scsi="0:10"), 1),
        (Query(type=ArchiveType.FULL), 1),
        (Query(type=ArchiveType.DELTA), 4),
        (Query(since=dt.datetime(2026, 1, 2, 3, 0, tzinfo=dt.UTC)), 3),
        (Query(until=dt.datetime(2026, 1, 2, 3, 0, tzinfo=dt.UTC)), 3),
        (Query(since=dt.datetime(2026, 1, 2, 4, 1, tzinfo=dt.UTC), until=dt.datetime(2101, 1, 1, tzinfo=dt.UTC)), 1),
        (Query(since=dt.datetime(1999, 1, 1, tzinfo=dt.UTC), vm="CRM", type=ArchiveType.DELTA), 2),
        (Query(since=dt.datetime(2150, 1, 1, tzinfo=dt.UTC)), 0),
    ],
)
@pytest.mark.usefixtures("nas")
def test_filters(tmp_path: Path, query: Query, expected: int) -> None:
    cache = catalog(tmp_path)
    cache.index(make_target)
    assert len(found(cache, query)) == expected


def test_a_name_with_seconds_is_an_archive_and_has_its_own_time(tmp_path: Path) -> None:
    at = dt.datetime(2026, 1, 2, 3, 0, 45, tzinfo=dt.UTC)
    put(tmp_path / "nas1", f"2026.01.02-CRM.{UUID}", "00-CRM.vmdk.delta-2026.01.02-030045-260101-030007.phd")
    put(tmp_path / "nas1", f"2026.01.02-CRM.{UUID}", "00-CRM.vmdk.gz-260102-030045.phd")
    held = catalog(tmp_path, "nas1")
    (known,) = held.index(make_target)
    assert known.archives == 2
    entries_then = list(held.entries(Query(since=at, until=at)))
    assert [(entry.name.disk, entry.time) for entry in entries_then] == [("CRM.vmdk", at)] * 2
    assert list(held.entries(Query(until=at - dt.timedelta(seconds=1)))) == []


@pytest.mark.usefixtures("nas")
def test_dates_are_those_of_the_targets_zone(tmp_path: Path) -> None:
    cache = catalog(tmp_path, zone="Pacific/Kiritimati")  # 14 hours ahead
    cache.index(make_target)
    early = dt.datetime(2026, 1, 1, 13, 0, tzinfo=dt.UTC)
    assert len(found(cache, Query(since=early, until=early, vm="CRM"))) == 1


HOSTILE = [
    "2026.01.02-C\nRM.564d122a-0ed7-3b92-2f46-aee9456b2074/" + delta_at("2026-01-02 03:00"),
    "2026.01.02-C\x1b[31mM.564d122a-0ed7-3b92-2f46-aee9456b2074/" + delta_at("2026-01-02 03:00"),
    "2026.01.02-C\udcffM 100%41.564d122a-0ed7-3b92-2f46-aee9456b2074/" + delta_at("2026-01-02 03:00"),
    '{"files": 0, "archives": 0, "finished": 1}/' + delta_at("2026-01-02 03:00"),
]
WORSE = [
    "../x/" + delta_at("2026-01-02 03:00"),
    "/etc/passwd",
    "..",
    "a/../b",
    "a/b/c.phd",
    "a//b",
    "x" * 10000 + "/y.phd",
    "a/\0",
    "",
]


class Server:
    """A target that says whatever it is told to."""

    def __init__(self, spec: TargetSpec, paths: list[str], *, fail: bool = False, wait: threading.Event | None = None) -> None:
        self.spec, self._paths, self._fail, self._wait = spec, paths, fail, wait
        self.closed = False

    def listing(self, _gaps: object = None) -> Iterator[ListedFile]:
        for path in self._paths:
            yield ListedFile(path=path, stat=FileStat(size=1, mtime=OLD))
        if self._wait is not None:
            self._wait.wait(30)
        if self._fail:
            raise TargetUnavailable(f"target {self.spec.name}: connection reset", remedy="wait")

    def close(self) -> None:
        self.closed = True


def as_target(server: Server) -> Target:
    return server  # type: ignore[return-value]  # a listing is all that an index asks for


def test_hostile_names_come_back_exact_or_not_at_all(tmp_path: Path) -> None:
    cache = catalog(tmp_path)
    cache.index(lambda spec: as_target(Server(spec, HOSTILE + WORSE)))
    assert [entry.ref.path for entry in cache.entries()] == HOSTILE
    lines = listing_path(cache.folder, "nas1").read_text().splitlines()
    assert len(lines) == len(HOSTILE) + 2
    assert all(line.isprintable() for line in lines)
    assert [entry.folder.vm for entry in cache.entries(Query(vm="C%1B*"))] == ["C\x1b[31mM"]
    assert len(found(cache, Query(vm="C\x1b*"))) == 1


def test_one_failing_target_hides_no_other_and_keeps_its_last_listing(tmp_path: Path, nas: Path) -> None:
    put(tmp_path / "nas2", "esx2", delta_at("2026-01-03 03:00"))
    cache = catalog(tmp_path, "nas1", "nas2")
    cache.index(make_target)
    nas.rename(tmp_path / "away")
    put(tmp_path / "nas2", "esx2", delta_at("2026-01-04 03:00"))
    before = time.time()
    first, second = cache.index(make_target)
    assert (first.archives, second.archives, second.problem) == (5, 2, "")
    assert first.stale_since is not None
    assert before <= first.stale_since <= time.time()
    assert "No such file" in first.problem
    assert len(found(cache)) == 7
    again, _ = cache.index(make_target)
    assert again.stale_since == first.stale_since
    assert again.head == first.head
    assert cache.old(max_age=999, now=time.time()) == ["nas2"]  # the failed one is left alone for a minute
    assert cache.old(max_age=999, now=time.time() + 61) == ["nas1", "nas2"]
    (tmp_path / "away").rename(nas)
    assert [one.stale_since for one in cache.index(make_target)] == [None, None]


def test_a_listing_that_breaks_off_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    cache = catalog(tmp_path)
    cache.index(lambda spec: as_target(Server(spec, HOSTILE)))
    server = Server(cache.specs[0], HOSTILE[:1], fail=True)
    (known,) = cache.index(lambda _: as_target(server))
    assert (known.archives, known.problem) == (len(HOSTILE), "target nas1: connection reset")
    assert len(found(cache)) == len(HOSTILE)
    assert server.closed
    assert sorted(path.name for path in cache.folder.iterdir()) == ["nas1.listing", "nas1.trouble"]


def test_a_bug_met_on_one_target_is_that_targets_trouble(tmp_path: Path, nas: Path) -> None:
    assert nas.exists()

    def open_target(spec: TargetSpec) -> Target:
        if spec.name == "nas2":
            raise AssertionError("never thought of")
        return make_target(spec)

    first, second = catalog(tmp_path, "nas1", "nas2").index(open_target)
    assert (first.archives, first.problem) == (5, "")
    assert (second.head, second.problem) == (None, "target nas2: AssertionError: never thought of")


@pytest.mark.usefixtures("nas")
def test_targets_are_walked_side_by_side(tmp_path: Path) -> None:
    other = threading.Event()
    cache = catalog(tmp_path, "a", "b")

    def open_target(spec: TargetSpec) -> Target:
        if spec.name == "b":
            other.set()
            return as_target(Server(spec, HOSTILE))
        return as_target(Server(spec, HOSTILE, wait=other))

    assert [one.archives for one in cache.index(open_target)] == [4, 4]


@pytest.mark.usefixtures("nas")
def test_a_torn_foreign_or_deleted_cache_is_no_listing(tmp_path: Path) -> None:
    cache = catalog(tmp_path)
    cache.index(make_target)
    path = listing_path(cache.folder, "nas1")
    whole = path.read_bytes()
    for end in (0, 1, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert found(cache) == []
        assert cache.old(max_age=999, now=time.time()) == ["nas1"]
    path.write_bytes(whole)
    moved = Catalog(cache.folder, [TargetSpec(name="nas1", url="file:///elsewhere")])
    assert list(moved.entries()) == []
    path.unlink()
    assert [one.archives for one in cache.index(make_target)] == [5]


@pytest.mark.usefixtures("nas")
def test_what_makes_a_listing_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore_core.catalog.index._QUICK", 0.0)
    cache = catalog(tmp_path)
    (known,) = cache.index(make_target)
    assert known.head is not None
    began = known.head.began
    assert cache.old(max_age=100, now=began + 100) == []
    assert cache.old(max_age=100, now=began + 101) == ["nas1"]
    assert cache.old(max_age=100, now=began - 1) == ["nas1"]  # the clock was set back
    mark_changed(cache.folder, "nas1", now=began + 1)
    assert cache.old(max_age=100, now=began + 2) == ["nas1"]
    time.sleep(max(0.0, began + 1 - time.time()))
    cache.index(make_target)
    assert cache.old(max_age=100, now=time.time()) == []


def test_a_second_index_at_the_same_time_waits_and_takes_what_is_new_enough(tmp_path: Path, nas: Path) -> None:
    cache = catalog(tmp_path)
    cache.folder.mkdir(parents=True)
    opened: list[str] = []

    def open_target(spec: TargetSpec) -> Target:
        opened.append(spec.name)
        return make_target(spec)

    with ListingWriter(cache.folder, cache.specs[0], began=time.time() + 3600) as writer:
        waiting = threading.Thread(target=cache.index, args=(open_target,))
        waiting.start()
        time.sleep(0.3)
        assert opened == []
        writer.publish(archives=0, finished=time.time())
    waiting.join(30)
    assert opened == ["nas1"]  # that listing began in the future: it is not believed
    assert nas.exists()


def settled(cache: Catalog) -> list[bool]:
    return [entry.settled for entry in cache.entries()]


def test_a_file_that_is_still_growing_is_not_settled(tmp_path: Path) -> None:
    now = time.time()
    growing = put(tmp_path / "nas1", "esx1", delta_at("2026-01-02 05:00"), mtime=now)
    cache = catalog(tmp_path)
    cache.index(make_target)
    assert settled(cache) == [False]
    path = listing_path(cache.folder, "nas1")

    def a_minute_passes() -> None:
        text = path.read_text()
        since = text.splitlines()[1].split(" ")[2]
        path.write_text(text.replace(f" {since} ", f" {int(since) - 61} "))

    a_minute_passes()
    put(tmp_path / "nas1", "esx1", growing.name, mtime=now, size=4)
    cache.index(make_target)
    assert settled(cache) == [False]
    a_minute_passes()
    cache.index(make_target)
    assert settled(cache) == [True]


def test_a_server_whose_clock_is_ahead(tmp_path: Path) -> None:
    put(tmp_path / "nas1", "esx1", delta_at("2026-01-02 05:00"), mtime=time.time() + 86400)
    cache = catalog(tmp_path)
    cache.index(make_target)
    assert settled(cache) == [False]
    path = listing_path(cache.folder, "nas1")
    text = path.read_text()
    since = text.splitlines()[1].split(" ")[2]
    path.write_text(text.replace(f" {since} ", f" {int(since) - 61} "))
    cache.index(make_target)
    assert settled(cache) == [True]


def test_an_archive_made_this_second_is_settled_when_its_header_proves_it_whole(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    first = lab.backup(b"a" * 700_000)
    second = lab.backup(b"b" * 700_000)
    cache = Catalog(tmp_path / "catalog", [lab.targets["t"].spec])
    cache.index(make_target)
    assert settled(cache) == [True, True, True]
    assert first.full is not None
    for ref in (second.delta, first.full):
        path = lab.path(ref)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        cache.index(make_target)
        assert [entry.ref for entry in cache.entries() if not entry.settled] == [ref]
        path.write_bytes(whole)


@pytest.mark.usefixtures("nas")
def test_the_cache_and_the_folder_around_it_are_for_one_user_whoever_makes_them(tmp_path: Path) -> None:
    for number, make in enumerate((lambda one: one.index(make_target), lambda one: mark_changed(one.folder, "nas1", now=1.0))):
        cache = Catalog(tmp_path / f"state{number}" / "catalog", catalog(tmp_path).specs)
        make(cache)
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in (cache.folder, cache.folder.parent)] == [0o700, 0o700]
