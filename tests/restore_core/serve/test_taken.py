"""Files of a guest, written into one folder: nothing that a guest says leads out of it, harms it, or overwrites what is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.errors import BadData, DestinationError
from restore_core.serve.file_systems.guest_file import GuestFacts
from restore_core.serve.taken import FolderWriter, is_harmless_name
from tests.guest_disk import TIME


class Guest:
    """Plays a walk to a writer: files are tuples of facts and content, folders of facts and a list."""

    def __init__(self, folder: Path, **options: bool) -> None:
        folder.mkdir(exist_ok=True)
        self._fd = os.open(folder, os.O_RDONLY)
        self.writer = FolderWriter(self._fd, **{"overwrite": False, "owners": False, **options})

    def play(self, facts: GuestFacts, content: object = b"", depth: int = 0) -> None:
        if depth == 0:
            self.writer.begin(name=facts.name, prefix="p1:/")
        if not self.writer.found(facts, depth):
            return
        if facts.kind == "folder":
            assert isinstance(content, list)
            for inner, inside in content:
                self.play(inner, inside, depth + 1)
            self.writer.left("")
            return
        assert isinstance(content, bytes)
        if content:
            self.writer.data(content)
        self.writer.ended("")

    def left_out(self) -> dict[str, str]:
        return {one.path: one.why for one in self.writer.finish().left_out}

    def close(self) -> None:
        self.writer.close()
        os.close(self._fd)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


@pytest.fixture
def guest(to: Path) -> Iterator[Guest]:
    guest = Guest(to)
    yield guest
    guest.close()


def file(name: str, size: int = 3, **facts: object) -> GuestFacts:
    return GuestFacts(name=name, kind="file", size=size, stored=size, mtime=TIME * 10**9, **{"mode": 0o644, **facts})  # type: ignore[arg-type]


def folder(name: str, **facts: object) -> GuestFacts:
    return GuestFacts(name=name, kind="folder", mode=0o755, mtime=TIME * 10**9, **facts)  # type: ignore[arg-type]


def link(name: str, target: str) -> GuestFacts:
    return GuestFacts(name=name, kind="link", link=target, mode=0o777, mtime=TIME * 10**9)


def everything(root: Path) -> list[str]:
    return sorted(os.path.relpath(os.path.join(where, name), root) for where, dirs, names in os.walk(root) for name in dirs + names)


def test_a_folder_is_written_with_times_and_modes_and_without_setuid(guest: Guest, to: Path) -> None:
    guest.play(folder("etc"), [(file("su", mode=0o6755), b"abc"), (folder("empty"), []), (file("shadow", mode=0o1600), b"xyz")])
    assert (to / "etc/su").read_bytes() == b"abc"
    assert stat.S_IMODE((to / "etc/su").stat().st_mode) == 0o755
    assert stat.S_IMODE((to / "etc/shadow").stat().st_mode) == 0o600
    assert {path.stat().st_mtime for path in (to / "etc", to / "etc/su", to / "etc/empty")} == {TIME}
    taken = guest.writer.finish()
    assert (taken.files, taken.folders, taken.bytes_written, taken.left_out) == (2, 2, 6, [])


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x", "/etc/x", "nul\0", "n" * 256])
def test_a_name_that_is_no_name_of_a_file_is_left_out(guest: Guest, to: Path, name: str) -> None:
    guest.play(folder("etc"), [(file(name), b"abc"), (folder(name), []), (link(name, "x"), b"")])
    assert everything(to.parent) == ["to", "to/etc"]
    assert set(guest.left_out().values()) == {"its name cannot be that of a file here"}


@pytest.mark.parametrize("name", ["new\nline", "-rf", "lat\udce9n", "\x1b[31m", "n" * 255, "..."])
def test_an_odd_name_is_only_a_name(guest: Guest, to: Path, name: str) -> None:
    guest.play(folder("etc"), [(file(name), b"abc")])
    assert everything(to) == ["etc", f"etc/{name}"]


@given(st.text(max_size=300))
def test_a_harmless_name_makes_one_entry_of_its_folder(name: str) -> None:
    if is_harmless_name(name):
        assert os.path.normpath(os.path.join("/a/b", name)).rpartition("/")[0] == "/a/b"


def test_links_that_stay_within_are_written_and_others_are_left_out_with_their_target(guest: Guest, to: Path) -> None:
    inside = ["../b", "b", "d/e", "./b", ".", "../d/x"]
    outside = ["/etc/passwd", "../../x", "b/../../..", "b/..", "../../..", "", "/", "d/../../x", "x\0y"]
    links = [(link(f"in{n}", target), b"") for n, target in enumerate(inside)]
    links += [(link(f"out{n}", target), b"") for n, target in enumerate(outside)]
    guest.play(folder("a"), [(folder("d"), links)])
    assert everything(to / "a/d") == [f"in{n}" for n in range(len(inside))]
    for name in everything(to / "a/d"):
        assert os.path.realpath(to / "a/d" / name).startswith(f"{os.path.realpath(to)}/a")
    why = guest.left_out()
    assert len(why) == len(outside)
    assert why["p1:/a/d/out0"] == "is a link to /etc/passwd, which may lead out of what is taken"


def test_a_link_to_the_own_folder_and_one_through_it_lead_nowhere_else(guest: Guest, to: Path) -> None:
    guest.play(folder("a"), [(link("self", "."), b""), (link("up", "self/.."), b""), (link("up2", ".."), b"")])
    assert everything(to) == ["a", "a/self"]


def test_nothing_is_written_through_a_link_that_the_guest_made_before(guest: Guest, to: Path) -> None:
    (to.parent / "secret").mkdir()
    (to / "a").mkdir(parents=True)
    (to / "a/d").symlink_to(to.parent / "secret")
    guest.play(folder("a"), [(folder("d"), [(file("x"), b"abc")]), (link("l", "d"), b""), (folder("l"), [(file("y"), b"abc")])])
    assert everything(to.parent / "secret") == []
    assert guest.left_out() == {
        "p1:/a/d": "is there already, and is a folder here or there",
        "p1:/a/l": "is there already, and is a folder here or there",
    }


def test_special_files_and_problems_are_left_out_by_their_reason(guest: Guest, to: Path) -> None:
    guest.play(folder("dev"), [(GuestFacts(name="sda", kind="special", problem="is a device"), b"")])
    assert everything(to) == ["dev"]
    assert guest.left_out() == {"p1:/dev/sda": "is a device"}


def test_a_file_that_is_there_stays_and_a_folder_is_filled(guest: Guest, to: Path) -> None:
    (to / "etc").mkdir(parents=True)
    (to / "etc/a").write_text("mine")
    guest.play(folder("etc"), [(file("a"), b"abc"), (file("b"), b"abc")])
    assert ((to / "etc/a").read_text(), (to / "etc/b").read_text()) == ("mine", "abc")
    assert guest.left_out() == {"p1:/etc/a": "is there already"}


def test_with_overwrite_a_file_or_link_is_replaced_and_what_a_link_names_is_not_touched(tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (tmp_path / "mine").write_text("mine")
    (to / "a").symlink_to(tmp_path / "mine")
    (to / "d").mkdir()
    guest = Guest(to, overwrite=True)
    guest.play(file("a"), b"abc")
    guest.play(file("d"), b"abc")
    assert (to / "a").read_text() == "abc"
    assert not (to / "a").is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"
    assert guest.left_out() == {"p1:/d": "is there already, and is a folder here or there"}
    guest.close()


def test_names_of_one_file_become_one_file(guest: Guest, to: Path) -> None:
    names = [(file("a", links=3, identity=7), b"abc"), (folder("d"), [(file("b", links=3, identity=7), b"abc")])]
    guest.play(folder("x"), [*names, (file("c", identity=8, links=2), b"abc")])
    assert (to / "x/a").stat().st_ino == (to / "x/d/b").stat().st_ino != (to / "x/c").stat().st_ino
    assert guest.writer.finish().files == 3


def test_holes_and_zeros_take_no_room(guest: Guest, to: Path) -> None:
    facts = file("sparse", size=64 << 20)
    guest.writer.begin(name="sparse", prefix="p1:/")
    assert guest.writer.found(facts, 0)
    guest.writer.hole(32 << 20)
    guest.writer.data(bytes(1 << 20))
    guest.writer.data(b"end")
    guest.writer.hole((31 << 20) - 3)
    guest.writer.ended("")
    found = (to / "sparse").stat()
    assert (found.st_size, found.st_blocks * 512 < 1 << 20) == (64 << 20, True)
    with (to / "sparse").open("rb") as written:
        written.seek(33 << 20)
        assert written.read(5) == b"end\0\0"


def test_a_file_larger_than_the_room_there_is_refused_before_it_is_written(guest: Guest, to: Path) -> None:
    guest.writer.begin(name="huge", prefix="p1:/")
    with pytest.raises(DestinationError, match="are free there"):
        guest.writer.found(file("huge", size=1 << 60), 0)
    assert everything(to) == []


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(guest: Guest, to: Path) -> None:
    for size, problem, why in [(6, "block 7 is bad", "block 7 is bad"), (6, "", "its content ends 3 bytes early")]:
        guest.writer.begin(name="x", prefix="p1:/")
        assert guest.writer.found(file("x", size=size), 0)
        guest.writer.data(b"abc")
        guest.writer.ended(problem)
        assert everything(to) == []
        assert guest.writer.finish().left_out[-1].why == why


def test_more_bytes_than_a_file_has_are_an_error_and_its_part_goes(guest: Guest, to: Path) -> None:
    guest.writer.begin(name="x", prefix="p1:/")
    guest.writer.found(file("x", size=2), 0)
    with pytest.raises(BadData):
        guest.writer.data(b"abc")
    guest.writer.close()
    assert everything(to) == []


def test_times_and_sizes_that_no_file_can_have_are_survived(guest: Guest, to: Path) -> None:
    guest.play(GuestFacts(name="t", kind="file", mtime=10**30, mode=0o644))
    guest.writer.begin(name="z", prefix="p1:/")
    if guest.writer.found(GuestFacts(name="z", kind="file", size=1 << 63), 0):
        guest.writer.hole(1 << 63)
        guest.writer.ended("")
    assert everything(to) == ["t"]
    assert "cannot be written" in guest.left_out()["p1:/z"]
