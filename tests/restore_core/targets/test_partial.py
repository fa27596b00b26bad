"""Servers that tell a part of what they hold, each in its own words: none of these parts is taken for the whole."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from restore_core.errors import ListingPartial, TargetRefused, TargetUnavailable
from restore_core.targets.ftp.listing import Unsure, read_list, read_mlsd
from restore_core.targets.ftp.replies import not_all_by
from restore_core.targets.gaps import Gap, GapKind
from restore_core.targets.kinds import make_target
from tests import servers
from tests.restore_core.targets.conftest import QUICK
from tests.servers import Served

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
FOLDERS = tuple(f"2026.11.2{day}-CRM.{UUID}" for day in range(1, 5))
NAME = "00-C.vmdk.gz-260301-0300.phd"
SECOND = FOLDERS[1]
ALL = [f"{folder}/{NAME}" for folder in FOLDERS]
NOW = dt.datetime(2026, 11, 28, 19, tzinfo=dt.UTC)
Told = tuple[list[str], list[Gap]]


@pytest.fixture(scope="module", params=["mlsd", "list"])
def ftp(request: pytest.FixtureRequest) -> Iterator[tuple[Served, Path]]:
    """An FTP server, with MLSD or without, and the file that says what it says."""
    with tempfile.TemporaryDirectory(prefix="phd-") as folder:
        script = Path(folder) / "script.json"
        with servers.pyftpd(Path(folder), script=script, mlsd=request.param == "mlsd") as served:
            fill(served)
            yield served, script


@pytest.fixture(scope="module")
def ssh() -> Iterator[tuple[Served, Path]]:
    """An SFTP server of the same kind."""
    with tempfile.TemporaryDirectory(prefix="phd-") as folder:
        script = Path(folder) / "script.json"
        with servers.ssh_password(Path(folder), script=script) as served:
            fill(served)
            yield served, script


def fill(served: Served) -> None:
    for folder in FOLDERS:
        (served.store / folder).mkdir()
        (served.store / folder / NAME).write_bytes(b"123")


def told(ftp: tuple[Served, Path], said: dict[str, dict[str, Any]]) -> Told:
    """What a listing gives where the server says this."""
    served, script = ftp
    script.write_text(json.dumps(said))
    target = make_target(served.spec, QUICK)
    gaps: list[Gap] = []
    try:
        return [found.path for found in target.listing(gaps)], gaps
    finally:
        target.close()
        script.unlink()


CUT = {"keep": 2, "reply": "226 Output truncated to 2 matches"}
ROOT: dict[str, tuple[dict[str, Any], GapKind]] = {
    "pure-ftpd": (CUT, GapKind.LIMITED),
    "in two lines": ({"keep": 2, "reply": "226-Options: -a -l\r\n226 2 matches total, truncated"}, GapKind.LIMITED),
    "other words": ({"keep": 2, "reply": "250 Listing incomplete: too many files"}, GapKind.LIMITED),
    "a line of another kind": ({"drop": SECOND, "extra": ["?????????? ? ? ? ? ? " + SECOND]}, GapKind.UNKNOWN),
    "half a line": ({"drop": SECOND, "extra": [SECOND]}, GapKind.UNKNOWN),
}


@pytest.mark.parametrize("case", ROOT)
def test_a_part_of_the_targets_own_folder(ftp: tuple[Served, Path], case: str) -> None:
    """The closing reply was thrown away, and lines that were not understood, too: the rest was taken for all there is."""
    said, kind = ROOT[case]
    found, gaps = told(ftp, {"/": said})
    assert 0 < len(found) < len(ALL)
    assert [(gap.path, gap.kind, gap.counts()) for gap in gaps] == [("", kind, True)]


FOLDER: dict[str, dict[str, Any]] = {
    "may not be entered": {"cwd": "550 Permission denied."},
    "may not be entered, otherwise": {"cwd": "550 Failed to change directory."},
    "may not be read": {"before": "450 .: Permission denied"},
    "may not be read, otherwise": {"before": "550 Permission denied."},
    "cannot be read by the server": {"before": "451 Local error in processing"},
    "could not be opened": {"keep": 0, "reply": "226 Transfer done (but failed to open directory)."},
    "truncated": {"keep": 0, "reply": "226 Output truncated to 0 matches"},
    "an error for a listing": {"keep": 0, "extra": ["ftpd: .: Permission denied"]},
    "an error after a total": {"keep": 0, "extra": ["total 0", "ftpd: .: Permission denied"]},
    "a line of another kind": {"drop": "phd", "extra": ["type=file;size=;modify=; " + NAME, "x"]},
    "html": {"keep": 0, "extra": ["<html>", "<body>Forbidden</body>"]},
}


@pytest.mark.parametrize("case", FOLDER)
def test_a_part_of_one_folder(ftp: tuple[Served, Path], case: str) -> None:
    """Any 550 was "gone meanwhile", and an empty answer an empty folder; other errors hid the whole target."""
    found, gaps = told(ftp, {f"/{SECOND}": FOLDER[case]})
    assert found == [path for path in ALL if not path.startswith(SECOND)]
    assert [(gap.path, gap.counts()) for gap in gaps] == [(SECOND, True)]
    _, notes = told(ftp, {})
    assert notes == []


def test_a_folder_of_which_the_server_says_that_it_is_empty_is_empty(ftp: tuple[Served, Path]) -> None:
    """Some servers refuse to list what holds no file, 550: a new target was "its folder is not there"."""
    assert told(ftp, {"/": {"before": "550 No files found."}}) == ([], [])
    found, gaps = told(ftp, {f"/{SECOND}": {"before": "450 No files found"}})
    assert (found, gaps) == ([path for path in ALL if not path.startswith(SECOND)], [])


def test_who_asks_for_no_gaps_gets_an_error(ftp: tuple[Served, Path]) -> None:
    served, script = ftp
    script.write_text(json.dumps({"/": CUT}))
    target = make_target(served.spec, QUICK)
    with pytest.raises(ListingPartial, match="its own folder: the server answers: 226 Output truncated to 2 matches") as caught:
        list(target.listing())
    script.unlink()
    target.close()
    assert "LimitRecursion" in caught.value.remedy
    assert caught.value.try_again


def test_a_folder_that_was_removed_meanwhile_is_no_gap(ftp: tuple[Served, Path]) -> None:
    """FTP says 550 for both: the names are asked for once more."""
    served, script = ftp
    script.write_text(json.dumps({f"/{SECOND}": {"cwd": "550 No such file or directory."}}))
    target = make_target(served.spec, QUICK)
    gaps: list[Gap] = []
    listing = target.listing(gaps)
    found = [next(listing).path]
    aside = served.store.parent / "aside"
    (served.store / SECOND).rename(aside)
    found += [each.path for each in listing]
    aside.rename(served.store / SECOND)
    script.unlink()
    target.close()
    assert (found, gaps) == ([path for path in ALL if not path.startswith(SECOND)], [])


def test_a_listing_of_which_nothing_is_understood_has_failed(ftp: tuple[Served, Path]) -> None:
    with pytest.raises(TargetUnavailable, match="no line of it is understood: <html>") as caught:
        told(ftp, {"/": {"keep": 0, "extra": ["<html>"]}})
    assert not isinstance(caught.value, ListingPartial)


@pytest.mark.parametrize("owners", ["backup   Domain Users", "other", "a b c d e f", "1000     1000"])
def test_groups_with_spaces_and_none_at_all(owners: str) -> None:
    """A group of a Windows domain has a space in its name: such a folder was passed over without a word."""
    line = f"drwxr-xr-x    2 {owners}     4096 Nov 22 03:00 {SECOND}\r\n"
    parsed = read_list(line.encode(), NOW)
    assert [(entry.name, entry.folder) for entry in parsed.entries] == [(SECOND, True)]
    assert parsed.unknown == []


@pytest.mark.parametrize("date", ["2026-11-22 03:00", "2026-11-22 03:00:07.123456789 +0100", "22 Nov 03:00", "Nov 22  2026"])
def test_dates_in_other_orders(date: str) -> None:
    parsed = read_list(f"-rw-r--r-- 2 backup backup 4096 {date} x y\r\n".encode(), NOW)
    (entry,) = parsed.entries
    assert (entry.name, entry.stat.size) == ("x y", 4096)
    assert dt.datetime.fromtimestamp(entry.stat.mtime, dt.UTC).date() == dt.date(2026, 11, 22)


def test_a_first_line_that_ends_otherwise_swallows_none() -> None:
    data = b"total 8\n-rw-r--r-- 1 a a 5 Nov 22 03:00 x\r\n-rw-r--r-- 1 a a 6 Nov 22 03:00 y\r\n"
    assert [entry.name for entry in read_list(data, NOW).entries] == ["x", "y"]


def test_a_name_that_ends_with_a_carriage_return_hides_no_other() -> None:
    """On a server whose lines end with LF alone all that came before it went into one name."""
    data = b"".join(b"-rw-r--r-- 1 a a 5 Nov 22 03:00 %b\n" % name for name in (b"x", b"y\r", b"z"))
    assert {entry.name for entry in read_list(data, NOW).entries} >= {"x", "z"}


@pytest.mark.parametrize(
    ("line", "size"), [(b"type=dir; F", 0), (b"type=dir;modify=; F", 0), (b"type=file;size=5;modify=20261122030000; F", 5)]
)
def test_facts_that_may_be_missing(line: bytes, size: int) -> None:
    parsed = read_mlsd(line + b"\r\n")
    assert ([entry.stat.size for entry in parsed.entries], parsed.unknown) == ([size], [])


@pytest.mark.parametrize(
    ("line", "size", "mtime"),
    [
        (b"type=file;size=5; F", 5, None),
        (b"type=file;modify=20260301030000; F", None, 1772334000.0),
        (b"type=file; F", None, None),
    ],
)
def test_a_size_or_time_that_is_not_told_is_not_known_and_never_0(line: bytes, size: int | None, mtime: float | None) -> None:
    """RFC 3659 requires neither. A file without a size was one of 0 bytes, later an unknown line."""
    parsed = read_mlsd(line + b"\r\n")
    assert (parsed.entries, parsed.unsure, parsed.unknown) == ([], [Unsure(name="F", size=size, mtime=mtime)], [])


@pytest.mark.parametrize(
    "reply",
    [
        "226 Directory send OK.",
        "226-Options: -l \n226 6 matches total",
        "226 Transfer complete.",
        "226 Successfully transferred",
        "226 Closing data connection; 0 errors",
        "250 Ok",
    ],
)
def test_replies_of_servers_that_have_said_all(reply: str) -> None:
    assert not not_all_by(reply)


SSH: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "permission denied": ({f"/{SECOND}": {"deny": 3}}, SECOND),
    "failure": ({f"/{SECOND}": {"deny": 4}}, SECOND),
    "no word of what its files are": ({f"/{SECOND}": {"blank": True}}, SECOND),
    "no word of what anything is": ({"/": {"blank": True}}, ""),
}


@pytest.mark.parametrize("case", SSH)
def test_a_part_over_sftp(ssh: tuple[Served, Path], case: str) -> None:
    said, where = SSH[case]
    found, gaps = told(ssh, said)
    assert found == ([path for path in ALL if not path.startswith(SECOND)] if where else [])
    assert [(gap.path, gap.counts()) for gap in gaps] == [(where, True)]


def test_over_sftp_a_size_that_a_listing_does_not_tell_is_asked_for(ssh: tuple[Served, Path]) -> None:
    served, script = ssh
    script.write_text(json.dumps({"/": {"no_size": "open"}, **{f"/{folder}": {"no_size": "yes"} for folder in FOLDERS}}))
    target = make_target(served.spec, QUICK)
    try:
        assert {found.path: found.stat.size for found in target.listing()} == dict.fromkeys(ALL, 3)
        with target.open(ALL[0]) as source:  # the server does not say it of open files either
            assert source.read_at(0, 3) == b"123"
        new = target.create(f"{FOLDERS[0]}/{NAME.replace('0300', '0400')}")
        new.write(b"4567")
        new.publish()
        assert (served.store / FOLDERS[0] / NAME.replace("0300", "0400")).read_bytes() == b"4567"
    finally:
        target.close()
        script.unlink()
        (served.store / FOLDERS[0] / NAME.replace("0300", "0400")).unlink(missing_ok=True)


def test_over_sftp_a_size_that_the_server_never_tells_is_a_gap_and_no_0(ssh: tuple[Served, Path]) -> None:
    said = {"/": {"no_size": "named"}, f"/{SECOND}": {"no_size": "yes"}}
    found, gaps = told(ssh, said)
    assert found == [path for path in ALL if not path.startswith(SECOND)]
    assert [(gap.path, gap.why) for gap in gaps] == [(SECOND, "the server does not say how long a file in it is")]
    served, script = ssh
    script.write_text(json.dumps(said))
    target = make_target(served.spec, QUICK)
    try:
        with pytest.raises(TargetRefused, match="does not say how long this file is"):
            target.open(ALL[0])
    finally:
        target.close()
        script.unlink()


@pytest.mark.parametrize("size", ["", "-", "?", "1.2G", "1,234", "1_234", "0x10", "-5", "12M"])
def test_a_size_in_another_form_is_no_size(size: str) -> None:
    """`1_234` was 1234 to MLSD, and a column that is not there made the group the size."""
    for read, line in (
        (read_mlsd, f"type=file;size={size};modify=20260301030000; {NAME}"),
        (partial(read_list, now=NOW), f"-rw-r--r-- 1 ftp ftp {size} Mar 01 03:00 {NAME}"),
        (partial(read_list, now=NOW), f"-rw-r--r-- 1 1000 1000 {size} Mar 01 03:00 {NAME}"),
        (partial(read_list, now=NOW), f"03-01-26  03:00AM  {size} {NAME}"),
    ):
        folder = "type=dir; x" if read is read_mlsd else "drwxr-xr-x 1 a b 0 Mar 01 03:00 x"
        found = read(f"{line}\r\n{folder}\r\n".encode())
        assert [entry.name for entry in found.entries] == ["x"], line
        assert len(found.unknown) + len(found.unsure) == 1, line


def test_over_ftp_a_size_that_a_listing_does_not_tell_is_asked_for(ftp: tuple[Served, Path]) -> None:
    """A LIST without sizes, and with numbers for owner and group, gave the number of the group as the size."""
    served, script = ftp
    no_mlsd = "--no-mlsd" in str(served.process.args)
    said = {"sub": [r" \S+ +\S+ +\d+ (?=[A-Z][a-z]{2} )", " 1000 1000 "] if no_mlsd else [r"size=\d+;", ""]}
    script.write_text(json.dumps({f"/{folder}": said for folder in FOLDERS}))
    target = make_target(served.spec, QUICK)
    try:
        assert {found.path: found.stat.size for found in target.listing()} == dict.fromkeys(ALL, 3)
    finally:
        target.close()
        script.unlink()


def test_a_folder_that_is_gone_over_sftp_is_no_gap(ssh: tuple[Served, Path]) -> None:
    found, gaps = told(ssh, {f"/{SECOND}": {"deny": 2}})
    assert (found, gaps) == ([path for path in ALL if not path.startswith(SECOND)], [])


class TestGap:
    def test_what_it_covers(self) -> None:
        def covers(path: str, of: str) -> bool:
            return Gap(path=path, kind=GapKind.LINK, why="x").covers(of, {"seen"})

        assert covers("f", "f/a")
        assert covers("f/a", "f/a")
        assert covers("", "gone/a")
        assert covers("", "root")
        assert not covers("f/a", "f/b")
        assert not covers("f", "g/a")
        assert not covers("", "seen/a")

    def test_whose_backups_it_may_hide(self) -> None:
        def hides(path: str, *who: str) -> bool:
            return Gap(path=path, kind=GapKind.LINK, why="x").may_hide(*who)

        assert hides("", "CRM", UUID)
        assert hides(SECOND, "CRM", UUID.upper())
        assert hides(SECOND, "CRM")
        assert hides("esx1", "esx1", UUID)
        assert not hides(SECOND, "CRM", UUID[:-1] + "9")
        assert not hides(SECOND, "Mail")
        assert not hides(SECOND, "a clone", UUID)
