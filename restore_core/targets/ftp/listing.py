"""Reads what FTP servers answer to MLSD (RFC 3659) and LIST (which has no standard). Pure: bytes in, entries out.

A listing that does not end with a line break was cut. A line that is not understood is returned beside the entries: a name with
a line break in it makes such lines, and one hostile name must not hide all backups. But something is missing then, and a listing
of which no line is understood is not an empty folder. A listing is partial, too, if the server's closing reply says so.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from restore_core.naming import printable
from restore_core.targets.base import FileStat
from restore_core.targets.remote.connection import Entry, is_single_path_component

_DATE = (
    rb"(?:(?P<month>[A-Z][a-z]{2})\s+(?P<day>\d{1,2})|(?P<day_first>\d{1,2})\s+(?P<month_last>[A-Z][a-z]{2}))\s+"
    rb"(?:(?P<year>\d{4})|(?P<hour>\d{1,2}):(?P<minute>\d{2}))"
)
_ISO = rb"(?P<iso>\d{4}-\d{2}-\d{2} \d{2}:\d{2})(?::\d{2}(?:\.\d+)?)?(?: [+-]\d{4})?"
_USUAL = re.compile(
    rb"(?P<kind>[-dlbcpsD])[-rwxsStTlL]{9}\S*\s+\d+\s+\S+\s+\S+\s+(?P<size>\d+)\s+"
    rb"(?P<month>[A-Z][a-z]{2})\s+(?P<day>\d{1,2})\s+(?:(?P<year>\d{4})|(?P<hour>\d{1,2}):(?P<minute>\d{2}))\s(?P<name>.+)",
    re.DOTALL,
)
"""The form of almost every server; the next one takes three times as long."""
_UNIX = re.compile(
    # Owner and group may be anything: a group of a Windows domain has spaces in its name, some servers show no group.
    rb"(?P<kind>[-dlbcpsD])[-rwxsStTlL]{9}\S*\s+\d+\s+(?P<owner>\S.*?)\s+(?P<size>\d+)\s+"
    rb"(?:" + _DATE + rb"|" + _ISO + rb")\s(?P<name>.+)",
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
    """A listing that was cut, or, if it `ended` as it should, one in an unknown form."""

    def __init__(self, why: str, *, ended: bool) -> None:
        super().__init__(why)
        self.ended = ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsure:
    """A file of which a listing does not say the size or the time: RFC 3659 requires neither."""

    name: str
    size: int | None
    mtime: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """The entries of a listing, the files of which it says too little, and the lines that were not understood."""

    entries: list[Entry]
    unknown: list[bytes]
    unsure: list[Unsure] = field(default_factory=list)

    @property
    def why(self) -> str:
        """A message with the first line that was not understood; empty if all were."""
        if not self.unknown:
            return ""
        more = f" and {len(self.unknown) - 1} more" if len(self.unknown) > 1 else ""
        return f"a line of it is not understood{more}: {printable(self.unknown[0][:120])}"


def read_mlsd(data: bytes) -> Parsed:
    """Reads an MLSD listing; times are exact."""
    return _parse(data, _mlsd_line)


def read_list(data: bytes, now: dt.datetime) -> Parsed:
    """Reads a LIST. A time without a year is the last one before `now` (UTC) plus a day for clocks that differ."""
    return _parse(data, lambda line: _list_line(line, now))


def size_in(text: str) -> int:
    """Reads a size as SIZE and MLSD write it, digits alone; `ValueError` for anything else."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:40]!r} is no size")
    return int(text)


def parse_mdtm(text: str) -> float:
    """Reads `YYYYMMDDHHMMSS[.sss]` in UTC, as MDTM and MLSD write it; `ValueError` for anything else."""
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time")
    return dt.datetime.strptime(match[1] + "+0000", "%Y%m%d%H%M%S%z").timestamp()


def _parse(data: bytes, parse_line: Callable[[bytes], Entry | Unsure | bool]) -> Parsed:
    if data and not data.endswith(b"\n"):
        raise NotAListing("it ends in the middle of a line", ended=False)
    lines = [line for line in _lines(data, parse_line) if line and not _is_total(line)]
    parsed = [parse_line(line) for line in lines]
    if lines and not any(parsed):
        raise NotAListing(f"no line of it is understood: {printable(lines[0][:120])}", ended=True)
    return Parsed(
        entries=[entry for entry in parsed if isinstance(entry, Entry)],
        unsure=[entry for entry in parsed if isinstance(entry, Unsure)],
        unknown=[line for line, found in zip(lines, parsed, strict=True) if not found],
    )


def _lines(data: bytes, parse_line: Callable[[bytes], Entry | Unsure | bool]) -> list[bytes]:
    """Splits a listing into lines. On some servers the first line has another end than the rest; a name may hold a line break."""
    if b"\r\n" not in data:
        return data.split(b"\n")
    lines: list[bytes] = []
    for line in data.split(b"\r\n"):
        if b"\n" not in line:
            lines.append(line)
            continue
        pieces = [piece for piece in line.split(b"\n") if piece]
        lines += pieces if all(_is_total(piece) or parse_line(piece) for piece in pieces) else [line]
    return lines


def _is_total(line: bytes) -> bool:
    """Whether this is the line above a LIST that counts blocks."""
    return line.lower().startswith(b"total ")


def _mlsd_line(line: bytes) -> Entry | Unsure | bool:
    """Returns an entry; True for a line that is understood and has no entry; False for any other line."""
    head, space, name = line.partition(b" ")
    facts = {key.lower(): value for key, _, value in (fact.partition(b"=") for fact in head.split(b";") if fact)}
    kind = facts.get(b"type", b"").lower()
    if not space or not kind:
        return False
    if kind not in (b"file", b"dir"):
        link = kind.startswith((b"os.unix=slink", b"os.unix=symlink"))
        return _entry(name, folder=False, size=0, mtime=0.0, link=True) if link else True
    if kind == b"dir":  # its time is not used
        time = facts.get(b"modify", b"").decode("ascii", "replace")
        return _entry(name, folder=True, size=0, mtime=parse_mdtm(time) if _TIME.match(time) else 0.0)
    try:
        size = size_in(facts[b"size"].decode("ascii")) if b"size" in facts else None
        mtime = parse_mdtm(facts[b"modify"].decode("ascii", "replace")) if b"modify" in facts else None
    except ValueError:
        return False
    found = _entry(name, folder=False, size=size or 0, mtime=mtime or 0.0)
    if isinstance(found, Entry) and (size is None or mtime is None):
        return Unsure(name=found.name, size=size, mtime=mtime)
    return found


def _list_line(line: bytes, now: dt.datetime) -> Entry | Unsure | bool:
    try:
        if match := _USUAL.match(line):
            return _unix_entry(match, _unix_time(match, match["month"], match["day"], now))
        if match := _UNIX.match(line):
            found = _unix_entry(match, _other_time(match, now))
            if isinstance(found, Entry) and match["kind"] == b"-" and match["owner"].isdigit():
                # Two numbers are owner and size, or owner and group of a server that tells no size.
                return Unsure(name=found.name, size=None, mtime=found.stat.mtime)
            return found
        if match := _DOS.match(line):
            time = _dos_time(match)
            return _entry(match["name"], folder=bool(match["folder"]), size=int(match["size"] or 0), mtime=time.timestamp())
    except (ValueError, KeyError):
        return False
    return False


def _unix_entry(match: re.Match[bytes], time: dt.datetime) -> Entry | bool:
    kind = match["kind"]
    if kind == b"l":
        return _entry(match["name"].partition(b" -> ")[0], folder=False, size=0, mtime=0.0, link=True)
    if kind not in b"-d":
        return True
    return _entry(match["name"], folder=kind == b"d", size=int(match["size"]), mtime=time.timestamp())


def _entry(name: bytes, *, folder: bool, size: int, mtime: float, link: bool = False) -> Entry | bool:
    text = name.decode("utf-8", "surrogateescape")
    # A name with a line break can be listed but never asked for: its second line would be another command.
    if "\r" in text or "\n" in text or size < 0:
        return False
    if not is_single_path_component(text):
        return True
    return Entry(name=text, folder=folder, stat=FileStat(size=0 if folder else size, mtime=mtime), link=link)


def _other_time(match: re.Match[bytes], now: dt.datetime) -> dt.datetime:
    if match["iso"]:
        return dt.datetime.fromisoformat(match["iso"].decode()).replace(tzinfo=dt.UTC)
    return _unix_time(match, match["month"] or match["month_last"], match["day"] or match["day_first"], now)


def _unix_time(match: re.Match[bytes], month_name: bytes, day_number: bytes, now: dt.datetime) -> dt.datetime:
    month, day = _MONTHS[month_name], int(day_number)
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
