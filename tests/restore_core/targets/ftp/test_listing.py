"""What servers answer to LIST and MLSD, written down from real ones, and what nobody should answer."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.targets.ftp.listing import NotAListing, parse_mdtm, read_list, read_mlsd
from restore_core.targets.remote.connection import Entry

NOW = dt.datetime(2026, 3, 5, 12, 0, tzinfo=dt.UTC)


def parse_mlsd(data: bytes) -> list[Entry]:
    return [entry for entry in read_mlsd(data).entries if not entry.link]


def parse_list(data: bytes, now: dt.datetime) -> list[Entry]:
    return [entry for entry in read_list(data, now).entries if not entry.link]


def seconds(*when: int) -> float:
    return dt.datetime(*when, tzinfo=dt.UTC).timestamp()  # type: ignore[misc, arg-type]  # year, month, day, hour, minute


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"-rw-r--r--    1 0        0            1234 Mar 01 03:00 a b.phd", ("a b.phd", False, 1234, seconds(2026, 3, 1, 3, 0))),
        (b"-rw-r--r--    1 0        0            1234 Mar 06 11:00 x", ("x", False, 1234, seconds(2026, 3, 6, 11, 0))),
        (b"-rw-r--r--    1 0        0            1234 Mar 07 03:00 x", ("x", False, 1234, seconds(2025, 3, 7, 3, 0))),
        (b"-rw-r--r--    1 0        0            1234 Feb 29 03:00 x", ("x", False, 1234, seconds(2024, 2, 29, 3, 0))),
        (b"-rw-r--r--    1 0        0    5000000000000 Dec 31  2007 x", ("x", False, 5_000_000_000_000, seconds(2007, 12, 31))),
        (
            b"drwxr-xr-x    2 ftp      ftp          4096 Mar 01 03:00 2026.03.01-A",
            ("2026.03.01-A", True, 0, seconds(2026, 3, 1, 3, 0)),
        ),
        (b"-rw-rw-r--+ 1 u g 7 Mar 1 03:00  two spaces", (" two spaces", False, 7, seconds(2026, 3, 1, 3, 0))),
        (b"09-21-07  03:05PM             123456 x y", ("x y", False, 123456, seconds(2007, 9, 21, 15, 5))),
        (b"09-21-2007  12:05AM       <DIR>          f", ("f", True, 0, seconds(2007, 9, 21, 0, 5))),
    ],
)
def test_lines_of_list(line: bytes, expected: tuple[str, bool, int, float]) -> None:
    (entry,) = parse_list(b"total 8\r\n" + line + b"\r\n", NOW)
    assert (entry.name, entry.folder, entry.stat.size, entry.stat.mtime) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"lrwxrwxrwx 1 0 0 3 Mar 01 03:00 link -> ../a",
        b"prw-r--r-- 1 0 0 0 Mar 01 03:00 pipe",
        b"-rw-r--r-- 1 0 0 1 Mar 01 03:00 ..",
        b"-rw-r--r-- 1 0 0 1 Mar 01 03:00 a/b",
        b"-rw-r--r-- 1 0 0 1 Mar 01 03:00 " + b"x" * 256,
        b"total 0",
    ],
)
def test_what_is_passed_over(line: bytes) -> None:
    assert parse_list(line + b"\r\n", NOW) == []


def test_mlsd() -> None:
    data = (
        b"type=cdir;modify=20260301030000; .\r\n"
        b"type=pdir;modify=20260301030000; ..\r\n"
        b"Size=5;Modify=20260301030000.123;Type=file;UNIX.mode=0644; a; b=c\r\n"
        b"type=dir;modify=20260301030000; folder\r\n"
        b"type=OS.unix=slink:/x;size=1;modify=20260301030000; link\r\n"
        b"type=file;size=1;modify=yesterday; odd\r\n"
    )
    found = [(entry.name, entry.folder, entry.stat.size, entry.stat.mtime) for entry in parse_mlsd(data)]
    assert found == [("a; b=c", False, 5, seconds(2026, 3, 1, 3, 0)), ("folder", True, 0, seconds(2026, 3, 1, 3, 0))]


@pytest.mark.parametrize(
    "data", [b"-rw-r--r-- 1 0 0 1 Mar 01 03:00 x", b"-rw-r--r-- 1 0 0 1 Mar 01 03:00 x\r\n-rw-r", b"<html>\r\n"]
)
def test_what_is_no_listing(data: bytes) -> None:
    with pytest.raises(NotAListing):
        parse_list(data, NOW)
    with pytest.raises(NotAListing):
        parse_mlsd(data)


def test_an_empty_folder_is_a_listing() -> None:
    assert parse_list(b"", NOW) == []
    assert parse_list(b"total 0\r\n", NOW) == []
    assert parse_mlsd(b"") == []


@given(st.binary(max_size=300))
def test_anything_is_a_listing_or_none(data: bytes) -> None:
    for parse in (parse_mlsd, lambda found: parse_list(found, NOW)):
        try:
            entries = parse(data)
        except NotAListing:
            continue
        assert all("/" not in entry.name and entry.name not in ("", ".", "..") for entry in entries)


@pytest.mark.parametrize("text", ["", "2026", "20261301000000", "20260301030000Z", "99999999999999"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_mdtm(text)
