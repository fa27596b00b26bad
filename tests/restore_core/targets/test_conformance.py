"""What every kind of target does alike: the contract of restore_core.targets.base, on real servers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from restore_core.errors import ArchiveAbsent, BadArchive, ListingPartial, PhdError, TargetEmptied, TargetUnavailable, TryAgainLater
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, Target, TargetSpec
from restore_core.targets.gaps import Gap, GapKind
from restore_core.targets.kinds import make_target
from tests.restore_core.targets.conftest import QUICK
from tests.rights import of_no_more_than_a_user

FULL = "2026.03.01-A b%.c/00-C.vmdk.gz-260301-0300.phd"
DELTA = "2026.03.01-A b%.c/00-C.vmdk.delta-2026.03.01-0300-260301-0300.phd"
DATA = random.Random(1).randbytes(2_300_017)

Place = tuple[TargetSpec, Path]


@pytest.fixture
def target(place: Place) -> Iterator[Target]:
    made = make_target(place[0], QUICK)
    yield made
    made.close()


def put(place: Place, path: str, data: bytes = DATA) -> Path:
    file = place[1] / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def test_listing(place: Place, target: Target) -> None:
    assert list(target.listing()) == []
    put(place, FULL)
    put(place, "a/x", b"12")
    put(place, "root.txt", b"")
    put(place, "a/deep/y")
    put(place, ".hidden/z")
    put(place, "a/half.phd-part")
    (place[1] / "link").symlink_to("a")
    (place[1] / "a/to-x").symlink_to("x")
    os.mkfifo(place[1] / "a/pipe")
    (place[1] / "empty").mkdir()
    found = [(each.path, each.stat.size) for each in target.listing()]
    if place[0].password_file and place[0].name.startswith("ftp"):
        # pyftpdlib calls everything in a folder a file, and what a link leads to, too: it cannot be told apart.
        found = [each for each in found if not each[0].startswith("link/") and each[0] not in ("a/to-x", "a/pipe")]
    assert found == [("root.txt", 0), (FULL, len(DATA)), ("a/x", 2)]


def test_many_folders_and_many_files_in_one(place: Place, target: Target) -> None:
    """More than travel together, and more in one folder than a server tells at a time."""
    expected = []
    for number in range(70):
        folder = place[1] / f"f{number:03d}"
        folder.mkdir()
        for file in range(230 if number in (20, 69) else number % 4):
            (folder / f"n{file:03d}").write_bytes(b"x" * (file % 5))
            expected.append((f"{folder.name}/n{file:03d}", file % 5))
    for _ in range(2):
        assert [(each.path, each.stat.size) for each in target.listing()] == expected


Spelling = Literal["NFC", "NFD", "both"]


def spelled(form: Spelling, path: str) -> str:
    """The path with its accents joined or apart, or with every second one apart."""
    if form != "both":
        return normalize(form, path)
    accents = itertools.count()
    return "".join(c if c.isascii() or next(accents) % 2 else normalize("NFD", c) for c in normalize("NFC", path))


@pytest.mark.parametrize(("stored", "typed"), [("NFC", "NFD"), ("NFD", "NFC"), ("both", "NFC"), ("both", "NFD"), ("NFD", "both")])
def test_an_archive_is_opened_by_any_spelling_of_its_accents(place: Place, stored: Spelling, typed: Spelling) -> None:
    """One with both spellings in one name, of which no form is the other's, was not found."""
    path = "2026.03.01-Bürö.c/00-Café é.vmdk.gz-260301-0300.phd"
    put(place, spelled(stored, path), b"abc")
    targets = TargetSet((place[0],), QUICK)
    with targets.open(ArchiveRef(target=place[0].name, path=spelled(typed, path))) as source:
        assert (source.read_at(0, 3), source.ref.path) == (b"abc", spelled(stored, path))
    with pytest.raises(ArchiveAbsent):
        targets.open(ArchiveRef(target=place[0].name, path=path.replace("0300", "0400")))
    targets.close()


@pytest.mark.parametrize("name", [b"\xff\xfe.phd", "ä ö".encode(), b"tab\tname", b"esc\x1b[2J", b" leading", b"semi;colon"])
def test_names_are_bytes(place: Place, target: Target, name: bytes) -> None:
    folder = place[1] / "f"
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(b"abc")
    if b"\xff" in name and place[0].name == "sftp" and place[0].password_file:
        pytest.skip("paramiko's server cannot list such a name; sshd is asked for it")
    (found,) = target.listing()
    path = found.path
    if path != "f/" + name.decode("utf-8", "surrogateescape"):
        # vsftpd writes "?" for what it thinks unescape_name: such a name is listed, and cannot be asked for.
        assert "?" in path
        return
    with target.open(path) as source:
        assert source.read_at(0, 3) == b"abc"


@pytest.mark.parametrize("name", ["line\nbreak", "carriage\rreturn"])
def test_a_name_with_a_line_break_hides_nothing(place: Place, target: Target, name: str) -> None:
    put(place, f"f/{name}")
    put(place, "f/x", b"1")
    assert "f/x" in [found.path for found in target.listing()]
    assert not any("/" in found.path.removeprefix("f/") for found in target.listing())


def test_stat_and_times(place: Place, target: Target) -> None:
    file = put(place, FULL)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert (target.stat(FULL).size, target.stat(FULL).mtime) == (len(DATA), 1_700_000_000)
    (found,) = target.listing()
    assert abs(found.stat.mtime - 1_700_000_000) < 86400


@pytest.mark.parametrize("path", ["none", "a/none", "none/x", "../x", "/etc/passwd", "a/../x", "", "a//x", "a/./x", "x\0y", "d"])
def test_what_is_not_there_is_absent(place: Place, target: Target, path: str) -> None:
    put(place, "a/x", b"1")
    (place[1] / "d").mkdir(exist_ok=True)
    with pytest.raises(ArchiveAbsent):
        target.open(path)
    with pytest.raises(ArchiveAbsent):
        target.stat(path)


def test_a_target_whose_folder_is_gone_is_unreachable(place: Place) -> None:
    spec, _ = place
    gone = dataclasses.replace(spec, url=spec.url.rstrip("/") + "/not/mounted")
    target = make_target(gone, QUICK)
    for attempt in (lambda: list(target.listing()), lambda: target.open("a/x"), lambda: target.create("a/x")):
        with pytest.raises(TargetUnavailable) as caught:
            attempt()
        assert not isinstance(caught.value, ArchiveAbsent)
        assert caught.value.try_again
    target.close()


def test_ranged_reads(place: Place, target: Target) -> None:
    put(place, FULL)
    with target.open(FULL) as source:
        assert (source.size, str(source.ref)) == (len(DATA), f"{place[0].name}:{FULL.replace('%', '%25')}")
        for offset, length in [(0, 0), (0, 1), (7, 100), (1_000_000, 700_001), (len(DATA) - 1, 1), (3, 5), (len(DATA), 0)]:
            assert source.read_at(offset, length) == DATA[offset : offset + length]
        for offset, length in [(len(DATA), 1), (0, len(DATA) + 1), (-1, 2), (len(DATA) + 5, 0)]:
            with pytest.raises(BadArchive, match="ends at"):
                source.read_at(offset, length)


def test_streams(place: Place, target: Target) -> None:
    put(place, FULL)
    with target.open(FULL) as source:
        assert b"".join(source.stream()) == DATA
        pieces = list(source.stream(11, 300_000, chunk=7_000))
        assert b"".join(pieces) == DATA[11:300_011]
        assert max(map(len, pieces)) <= 7_000
        abandoned = source.stream()
        next(abandoned)
        abandoned.close()  # type: ignore[attr-defined]  # an iterator that is a generator
        assert source.read_at(5, 5) == DATA[5:10]


def test_ranges_in_any_order(place: Place, target: Target) -> None:
    put(place, FULL)
    rng = random.Random(3)
    plans = [
        [(at, min(30_000, len(DATA) - at)) for at in range(0, len(DATA), 37_000)],
        [(at, 10) for at in range(0, 2_000_000, 400_000)],
        [(0, 100), (100, 0), (100, 5), (50, 100), (2_000_000, 9), (10, 1)],
        [(start := rng.randrange(len(DATA)), rng.randrange(len(DATA) - start)) for _ in range(10)],
    ]
    with target.open(FULL) as source:
        for plan in plans:
            found = list(source.ranges(iter(plan)))
            assert [bytes(data) for data in found] == [DATA[offset : offset + length] for offset, length in plan]
        with pytest.raises(BadArchive, match="ends at"):
            list(source.ranges(iter([(0, 5), (len(DATA), 1)])))


def test_threads_side_by_side(place: Place, target: Target) -> None:
    put(place, FULL)
    wrong: list[object] = []

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(20):
            offset = rng.randrange(len(DATA) - 50_000)
            if source.read_at(offset, 50_000) != DATA[offset : offset + 50_000]:
                wrong.append(offset)

    with target.open(FULL) as source:
        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_empty_file(place: Place, target: Target) -> None:
    put(place, "a/empty", b"")
    with target.open("a/empty") as source:
        assert (source.size, list(source.stream()), source.read_at(0, 0)) == (0, [], b"")


def test_a_file_that_is_replaced_is_not_mixed(place: Place, target: Target) -> None:
    if place[0].name == "file":
        pytest.skip("an open local file stays what it was: there is nothing to mix")
    file = put(place, FULL)
    for other in (bytes(len(DATA)), DATA[:-1]):
        with target.open(FULL) as source:
            assert source.read_at(0, 1000) == DATA[:1000]
            put(place, "a/x", DATA)
            with target.open("a/x") as another:  # the connection lets go of the first file
                another.read_at(0, 10)
            file.unlink()
            file.write_bytes(other)
            os.utime(file, (1_700_000_000, 1_700_000_000))
            with pytest.raises(TryAgainLater, match="replaced meanwhile"):
                source.read_at(1000, 10)
        with target.open(FULL) as source:
            assert source.read_at(0, 10) == other[:10]
        put(place, FULL)


def test_a_file_whose_time_moves_is_the_same_file(place: Place, target: Target) -> None:
    """A server with a write-back cache sets the time again when it has written the file, or at every look."""
    file = put(place, FULL)
    with target.open(FULL) as source:
        for number, offset in enumerate((0, 2_000_000, 0, 1000)):
            os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
            put(place, "a/x", DATA)
            with target.open("a/x") as another:
                another.read_at(0, 10)
            assert source.read_at(offset, 100_000) == DATA[offset : offset + 100_000]


@pytest.mark.parametrize("path", [FULL, DELTA, "one/two", "at-root"])
def test_a_new_file(place: Place, target: Target, path: str) -> None:
    out = target.create(path)
    for at in range(0, len(DATA), 300_000):
        out.write(DATA[at : at + 300_000])
    if path != FULL:  # a Full is sent as it is made
        out.write_at(b"HEAD", 0)
    assert list(target.listing()) == []
    out.publish()
    out.discard()
    expected = DATA if path == FULL else b"HEAD" + DATA[4:]
    assert (place[1] / path).read_bytes() == expected
    assert [found.path for found in target.listing()] == [path]
    assert [p.name for p in place[1].rglob("*.phd-part")] == []


@pytest.mark.parametrize("path", [FULL, DELTA])
def test_never_over_an_existing_name(place: Place, target: Target, path: str) -> None:
    out = target.create(path)
    out.write(b"new")
    put(place, path, b"old")
    with pytest.raises(FileExistsError):
        out.publish()
    out.discard()
    assert (place[1] / path).read_bytes() == b"old"
    assert [p.name for p in place[1].rglob("*.phd-part")] == []


@pytest.mark.parametrize("path", [FULL, DELTA])
def test_discarded_is_gone(place: Place, target: Target, path: str) -> None:
    out = target.create(path)
    out.write(DATA)
    out.discard()
    out.discard()
    assert [p for p in place[1].rglob("*") if p.is_file()] == []
    out = target.create(path)
    out.publish()
    assert (place[1] / path).read_bytes() == b""


def test_no_links_below_the_target(place: Place, target: Target) -> None:
    if place[0].name.startswith("ftp"):
        pytest.skip("FTP has no way to tell a link from a file when it is asked for one")
    put(place, "a/x", b"1")
    (place[1] / "l").symlink_to("a")
    (place[1] / "a/y").symlink_to("x")
    for path in ("l/x", "a/y"):
        with pytest.raises(ArchiveAbsent):
            target.open(path)


def test_it_can_be_used_again_after_an_error(place: Place, target: Target) -> None:
    put(place, FULL)
    for _ in range(3):
        with pytest.raises(ArchiveAbsent):
            target.open("a/none")
        with target.open(FULL) as source:
            assert source.read_at(0, 4) == DATA[:4]


# What rights forbid needs a person: the same verdict on every kind of target.


def refused_work(place: Place, work: str) -> PhdError | None:
    """The error of this work, as somebody who is not root."""
    target = make_target(place[0], QUICK)
    try:
        with of_no_more_than_a_user(), contextlib.suppress(FileExistsError):
            if work == "read":
                target.open(FULL).read_at(0, 1)
            elif work == "list":
                list(target.listing())
            else:
                new = target.create(FULL if work == "write" else "new/00-C.vmdk.gz-260301-0300.phd")
                try:
                    new.write(b"x")
                    new.publish()
                finally:
                    new.discard()
    except PhdError as error:
        return error
    finally:
        target.close()
    return None


@pytest.mark.parametrize(
    ("work", "shut", "mode"),
    [
        ("read", FULL, 0),
        ("write", os.path.dirname(FULL), 0o555),
        ("make a folder", "", 0o555),
        ("list", "", 0),
    ],
)
def test_what_rights_forbid_is_not_tried_again_and_exits_with_69(place: Place, work: str, shut: str, mode: int) -> None:
    """On a file target it was taken for temporary, and tried again three times."""
    file = put(place, FULL, b"abc")
    if work == "write":
        file.unlink()
    there = place[1] / shut
    with closed(there, mode):
        error = refused_work(place, work)
    there.chmod(0o755)
    assert error is not None
    if work == "list" and "Failed to change directory" in error.message:
        return  # vsftpd says the same of a folder that is not there: its disk may not be mounted yet
    assert (error.try_again, error.exit_code) == (False, 69), error
    assert error.remedy


# A listing is complete, or partial, or it failed: the same on every kind of target.

DATED = "2026.03.01-A.564d122a-0ed7-3b92-2f46-aee9456b2074"
OTHER = "2026.03.02-B.564d122a-0ed7-3b92-2f46-aee9456b2075"
NAME = "00-C.vmdk.gz-260301-0300.phd"


def look(place: Place) -> tuple[list[str], list[Gap]]:
    """What a listing tells, and what it says is missing; as somebody who is not root."""
    gaps: list[Gap] = []
    target = make_target(place[0], QUICK)
    with of_no_more_than_a_user():
        found = [each.path for each in target.listing(gaps)]
    target.close()
    return found, gaps


def refusal(place: Place) -> PhdError | None:
    """The error of a listing that nobody asks for gaps."""
    target = make_target(place[0], QUICK)
    try:
        with of_no_more_than_a_user():
            list(target.listing())
    except PhdError as error:
        return error
    finally:
        target.close()
    return None


@contextlib.contextmanager
def closed(folder: Path, mode: int = 0) -> Iterator[None]:
    """A folder that may not be read, for a while."""
    folder.chmod(mode)
    try:
        yield
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("mode", [0, 0o400, 0o100], ids=["closed", "not-to-be-entered", "not-to-be-read"])
def test_a_closed_folder_of_backups_makes_a_listing_partial_and_hides_no_other(place: Place, mode: int) -> None:
    """One folder hid the whole target on file and SFTP, and went without a word on FTP."""
    for folder in (DATED, OTHER):
        put(place, f"{folder}/{NAME}", b"1")
    with closed(place[1] / DATED, mode):
        found, gaps = look(place)
        error = refusal(place)
    told = [path for path in found if not path.startswith(DATED)]
    assert told == [f"{OTHER}/{NAME}"]
    assert {gap.folder for gap in gaps} == {DATED}
    assert all(gap.counts() and gap.why for gap in gaps)
    assert {gap.kind for gap in gaps} == {GapKind.UNREADABLE}  # vsftpd's "failed to open" was taken for a limit
    assert isinstance(error, ListingPartial)
    assert DATED in error.message
    assert look(place) == ([f"{DATED}/{NAME}", f"{OTHER}/{NAME}"], [])


def test_a_folder_of_others_that_is_closed_is_a_note(place: Place) -> None:
    """A root-only `lost+found`, which every ext4 volume has, made a target unreachable."""
    put(place, f"{DATED}/{NAME}", b"1")
    (place[1] / "lost+found").mkdir()
    with closed(place[1] / "lost+found"):
        found, gaps = look(place)
        error = refusal(place)
    assert found == [f"{DATED}/{NAME}"]
    assert [(gap.path, gap.counts(), gap.counts({"lost+found"})) for gap in gaps] == [("lost+found", False, True)]
    assert error is None


@pytest.mark.parametrize("then", ["nothing", "a file"])
def test_a_folder_that_vanishes_while_it_is_listed_is_no_gap_and_hides_no_other(place: Place, then: str) -> None:
    put(place, "root.txt", b"")
    for folder in (DATED, OTHER):
        put(place, f"{folder}/{NAME}", b"1")
    gaps: list[Gap] = []
    target = make_target(place[0], QUICK)
    listing = target.listing(gaps)
    found = [next(listing).path]  # the names of the folders are known then
    (place[1] / DATED / NAME).unlink()
    (place[1] / DATED).rmdir()
    if then == "a file":
        (place[1] / DATED).write_bytes(b"1")
    found += [each.path for each in listing]
    target.close()
    assert found == ["root.txt", f"{OTHER}/{NAME}"]
    assert gaps == []


def test_a_link_that_leads_to_itself_ends_no_listing(place: Place) -> None:
    put(place, f"{DATED}/{NAME}", b"1")
    (place[1] / "loop").symlink_to("loop")
    (place[1] / "up").symlink_to(".")
    (place[1] / DATED / "loop").symlink_to("loop")
    found, gaps = look(place)
    # pyftpdlib shows a link as what it leads to: this is a folder then, in which no archive lies.
    assert [path for path in found if path.endswith(".phd")] == [f"{DATED}/{NAME}"]
    assert not any(gap.counts() for gap in gaps)


def test_a_link_is_a_gap_where_backups_may_lie_behind_it(place: Place) -> None:
    if place[0].password_file and place[0].name.startswith("ftp"):
        pytest.skip("pyftpdlib shows a link as what it leads to: it cannot be told apart")
    put(place, f"{DATED}/{NAME}", b"1")
    (place[1] / OTHER).symlink_to(DATED)
    (place[1] / "latest").symlink_to(DATED)
    (place[1] / DATED / NAME.replace("0300", "0400")).symlink_to(NAME)
    (place[1] / DATED / "readme").symlink_to(NAME)
    found, gaps = look(place)
    assert found == [f"{DATED}/{NAME}"]
    counting = sorted(gap.path for gap in gaps if gap.counts())
    assert counting == [f"{DATED}/{NAME.replace('0300', '0400')}", OTHER]
    assert [gap.path for gap in gaps if not gap.counts()] == ["latest"]
    assert isinstance(refusal(place), ListingPartial)


def test_a_target_whose_own_folder_is_closed_has_failed(place: Place) -> None:
    put(place, f"{DATED}/{NAME}", b"1")
    with closed(place[1]):
        error = refusal(place)
    assert isinstance(error, TargetUnavailable)
    assert not isinstance(error, ListingPartial | ArchiveAbsent)


def test_an_archive_on_a_target_that_holds_nothing_may_come_back(place: Place, target: Target) -> None:
    """An empty mount point said that the archive is absent, for good: the job failed instead of waiting."""
    (place[1] / "lost+found").mkdir()
    with pytest.raises(TargetEmptied, match="is it mounted") as caught:
        target.open(f"{DATED}/{NAME}")
    assert caught.value.try_again
    put(place, f"{OTHER}/{NAME}", b"1")
    with pytest.raises(ArchiveAbsent):
        target.open(f"{DATED}/{NAME}")
