"""What FTP servers answer to MLSD (RFC 3659) and LIST (nobody's standard), as entries. Pure: bytes in, entries out.

A listing that does not end with its line was cut. A line that is not understood is passed over, since a name with a line
break in it makes such lines, and one hostile name must not hide all backups; but a listing of which no line is understood
is no empty folder.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

from restore_core.targets.base import FileStat
from restore_core.targets.server import Entry, honest

_UNIX = re.compile(
    rb"(?P<kind>[-dlbcpsD])[-rwxsStTlL]{9}\S*\s+\d+\s+\S+\s+\S+\s+(?P<size>\d+)\s+"
    rb"(?P<month>[A-Z][a-z]{2})\s+(?P<day>\d{1,2})\s+(?:(?P<year>\d{4})|(?P<hour>\d{1,2}):(?P<minute>\d{2}))\s(?P<name>.+)",
    re.DOTALL,
)
_DOS = re.compile(
    rb"(?P<month>\d{2})-(?P<day>\d{2})-(?P<year>\d{2,4})\s+(?P<hour>\d{2}):(?P<minute>\d{2})(?P<half>[AP]M)?\s+"
    rb"(?:(?P<folder><DIR>)|(?P<size>\d+))\s+(?P<name>.+)",
    re.DOTALL,
)
_MONTHS = {name: n for n, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_TIME = re.compile(r"(\d{14})(?:\.\d+)?\Z")


class NotAListing(ValueError):
    """Cut short, or in a form we do not know."""


def parse_mlsd(data: bytes) -> list[Entry]:
    """Entries of an MLSD listing; times are exact."""
    return _parse(data, _mlsd_line)


def parse_list(data: bytes, now: dt.datetime) -> list[Entry]:
    """Entries of a LIST; a time without a year is the last one before `now` (UTC) plus a day for clocks that differ."""
    return _parse(data, lambda line: _list_line(line, now))


def parse_time(text: str) -> float:
    """`YYYYMMDDHHMMSS[.sss]` in UTC, as MDTM and MLSD write it; `ValueError` for anything else."""
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time")
    return dt.datetime.strptime(match[1] + "+0000", "%Y%m%d%H%M%S%z").timestamp()


def _parse(data: bytes, parse_line: Callable[[bytes], Entry | bool]) -> list[Entry]:
    if data and not data.endswith(b"\n"):
        raise NotAListing("it ends in the middle of a line")
    lines = [line for line in data.split(b"\r\n" if b"\r\n" in data else b"\n") if line]
    parsed = [parse_line(line) for line in lines]
    if lines and not any(parsed):
        raise NotAListing("no line of it is understood")
    return [entry for entry in parsed if isinstance(entry, Entry)]


def _mlsd_line(line: bytes) -> Entry | bool:
    """An entry; True for a line that is understood and tells of nothing for us."""
    head, space, name = line.partition(b" ")
    facts = {key.lower(): value for key, _, value in (fact.partition(b"=") for fact in head.split(b";") if fact)}
    kind = facts.get(b"type", b"").lower()
    if not space or not kind:
        return False
    if kind not in (b"file", b"dir"):
        return True
    try:
        size = int(facts.get(b"size", b"0")) if kind == b"file" else 0
        mtime = parse_time(facts.get(b"modify", b"").decode("ascii", "replace"))
    except ValueError:
        return False
    return _entry(name, folder=kind == b"dir", size=size, mtime=mtime)


def _list_line(line: bytes, now: dt.datetime) -> Entry | bool:
    if line.lower().startswith(b"total "):
        return True
    try:
        if match := _UNIX.match(line):
            if match["kind"] not in b"-d":
                return True
            time = _unix_time(match, now)
            return _entry(match["name"], folder=match["kind"] == b"d", size=int(match["size"]), mtime=time.timestamp())
        if match := _DOS.match(line):
            time = _dos_time(match)
            return _entry(match["name"], folder=bool(match["folder"]), size=int(match["size"] or 0), mtime=time.timestamp())
    except (ValueError, KeyError):
        return False
    return False


def _entry(name: bytes, *, folder: bool, size: int, mtime: float) -> Entry | bool:
    text = name.decode("utf-8", "surrogateescape")
    # A name with a line break could be listed but never asked for: it would be another command.
    if not honest(text) or "\r" in text or "\n" in text or size < 0:
        return True
    return Entry(name=text, folder=folder, stat=FileStat(size=0 if folder else size, mtime=mtime))


def _unix_time(match: re.Match[bytes], now: dt.datetime) -> dt.datetime:
    month, day = _MONTHS[match["month"]], int(match["day"])
    if match["year"]:
        return dt.datetime(int(match["year"]), month, day, tzinfo=dt.UTC)
    latest = now + dt.timedelta(days=1)
    for year in range(latest.year, latest.year - 9, -1):
        try:
            found = dt.datetime(year, month, day, int(match["hour"]), int(match["minute"]), tzinfo=dt.UTC)
        except ValueError:  # 29 February of another year
            continue
        if found <= latest:
            return found
    raise ValueError("no such day")


def _dos_time(match: re.Match[bytes]) -> dt.datetime:
    year, hour = int(match["year"]), int(match["hour"])
    if match["half"]:
        hour = hour % 12 + (12 if match["half"] == b"PM" else 0)
    year += 2000 if year < 100 else 0
    return dt.datetime(year, int(match["month"]), int(match["day"]), hour, int(match["minute"]), tzinfo=dt.UTC)
