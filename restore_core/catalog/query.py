"""Reads from the cache the archives that a query asks for.

The cache is filtered as text, folder by folder: of 100,000 lines only the chosen ones become entries. A wildcard pattern
(`*`, `?`, `[...]`) is compared with a name as it is and as it is printed, so that a person can type what `phd backups` shows; and
whichever way accents are stored (`naming.comparable`).
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.catalog.entry import CatalogEntry, entry_of
from restore_core.catalog.left_out import read_left_out
from restore_core.catalog.listing import ListingLine, parse_line, read_texts, read_trouble, unescaped
from restore_core.naming import ArchiveType, printable
from restore_core.targets.base import ArchiveRef, FileStat, TargetSpec

_SHAPE = re.compile(
    r"(?P<scsi>[a-z]{0,4}\d{2,4})-(?P<disk>.+)\."
    rf"(?:gz-(?P<full>{naming.FULL_STAMP})|delta-(?=20)(?P<delta>{naming.DELTA_STAMP})-{naming.FULL_STAMP})\.phd\Z"
)
_NOT_LITERAL = re.compile(r"[*?]|[^ -~]|[K;`]")
"""Wildcards, and what a line may hold in another spelling: the last three have a second code in Unicode each."""

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Conditions, all of which must hold; None is no condition. `since` and `until` are aware and inclusive, `vms` exact names."""

    vm: str | None = None
    vms: frozenset[str] | None = None
    vmdk: str | None = None
    uuid: str | None = None
    scsi: str | None = None
    type: ArchiveType | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


EVERYTHING = Query()


def cached_entries(folder: Path, spec: TargetSpec, query: Query = EVERYTHING) -> Iterator[CatalogEntry]:
    """Yields the chosen archives of one target from the cache in `folder`; nothing if there is no good listing."""
    zone = ZoneInfo(spec.timezone)
    if query.vms is not None:
        query = replace(query, vms=frozenset(map(naming.comparable, query.vms)))
    literals = [piece for pattern in (query.vm, query.vmdk) if pattern and (piece := _literal(pattern))]
    wanted_name = _name_test(query)
    last_folder, folder_is_wanted = "", False
    silent = read_trouble(folder, spec) is not None
    left_out = read_left_out(folder, spec)
    for text in read_texts(folder, spec):
        if any(literal not in text for literal in literals):
            continue
        folder_text, slash, name = text.split(" ", 3)[-1].rstrip("\n").rpartition("/")
        if not slash:
            continue
        if folder_text != last_folder:
            last_folder, folder_is_wanted = folder_text, _folder_is_wanted(unescaped(folder_text), query)
        if folder_is_wanted and wanted_name(name) and (line := parse_line(text)) is not None:
            found = entry_of(*_ref_and_stat(spec, line), zone, settled=line.settled, stale=silent or line.stale)
            if found is not None and _in_time(found, query):
                yield replace(found, left_out=left_out[line.path]) if line.path in left_out else found


def files_of_size(folder: Path, spec: TargetSpec, size: int) -> Iterator[tuple[ArchiveRef, FileStat]]:
    """Yields the files of exactly this size on one target, of any name, from the cache: a Full may have been renamed."""
    first = f"{size} "
    for text in read_texts(folder, spec):
        if text.startswith(first) and (line := parse_line(text)) is not None and line.settled:
            yield _ref_and_stat(spec, line)


def _ref_and_stat(spec: TargetSpec, line: ListingLine) -> tuple[ArchiveRef, FileStat]:
    return ArchiveRef(target=spec.name, path=unescaped(line.path)), FileStat(size=line.size, mtime=line.mtime)


def _literal(pattern: str) -> str:
    """Returns a text that every line contains whose name matches the pattern; empty if there is none that is quick to find."""
    if "[" in pattern or "%" in pattern or not pattern.isprintable():
        return ""
    return max(_NOT_LITERAL.split(naming.comparable(pattern)), key=len)


def matches(pattern: str | None, name: str) -> bool:
    """Whether a wildcard pattern matches a name, as it is or as it is printed; None matches every name."""
    if pattern is None:
        return True
    pattern, name = naming.comparable(pattern), naming.comparable(name)
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(printable(name), pattern)


def _folder_is_wanted(name: str, query: Query) -> bool:
    if query.vm is None and query.vms is None and query.uuid is None:
        return True
    folder = naming.parse_folder(name)
    if query.uuid is not None and not matches(query.uuid.lower(), (folder.uuid or "-").lower()):
        return False
    return (query.vms is None or naming.comparable(folder.vm) in query.vms) and matches(query.vm, folder.vm)


def _name_test(query: Query) -> Callable[[str], bool]:
    """Returns a quick test of a file's name. It may accept a file that is no archive; it never rejects one that is asked for."""
    low = _stamp(query.since, -_DAY) if query.since else ""
    high = _stamp(query.until, _DAY) if query.until else "~"
    scsi = query.scsi.lower().removeprefix("scsi").replace(":", "") if query.scsi else None  # as a VMX writes it, too

    def wanted(name: str) -> bool:
        shape = _SHAPE.match(name)
        if shape is None:
            return False
        full = shape["full"]
        if query.type is not None and (query.type is ArchiveType.FULL) is not (full is not None):
            return False
        stamp = full or shape["delta"][2:].replace(".", "")
        return (
            low <= stamp <= high
            and matches(scsi, shape["scsi"])
            and (query.vmdk is None or matches(query.vmdk, unescaped(shape["disk"])))
        )

    return wanted


def _in_time(entry: CatalogEntry, query: Query) -> bool:
    return (query.since is None or entry.time >= query.since) and (query.until is None or entry.time <= query.until)


def _stamp(time: dt.datetime, margin: dt.timedelta) -> str:
    """Returns a limit for stamps as text, whatever the target's zone is: a day of margin covers every zone."""
    at = time.astimezone(dt.UTC)
    if not 2001 <= at.year <= 2098:  # stamps are 20YY
        return "" if at.year < 2001 else "~"
    return f"{at + margin:%y%m%d-%H%M}"
