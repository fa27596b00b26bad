"""`restored.log`: one readable line a verified restore. Deleting a line, or the file, makes that restore eligible again.

    2026-11-22T14:03:11Z|nas1:2007.09.21-CRM.564d.../00-CRM.vmdk.delta-....phd|/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk|JOB|5f0c1e8a9b3d4c27

The last field is the start of the SHA-256 of all before it, so that a torn or edited line is never read as "restored";
it is reported instead. Lines that start with `#` and empty ones are comments. Written by the daemon alone, after the disk
is durable and before its job is called done; read by everybody.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from restore_core import durable
from restore_core.durable import read_plain
from restore_core.errors import TryAgainLater
from restore_core.naming import printable, unescape_name
from restore_core.targets import parse_ref
from restore_core.targets.base import ArchiveRef

_CHECK_DIGITS = 16
_PREFIX = "auto-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One verified restore; `time` is aware, to the second."""

    time: dt.datetime
    archive: ArchiveRef
    destination: Path
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that names no restore; `number` counts from 1."""

    number: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What was restored, by destination in the order of the file, and the lines that could not be believed."""

    lines: tuple[LedgerLine, ...]
    bad: tuple[BadLine, ...]

    def by_destination(self) -> dict[Path, tuple[LedgerLine, ...]]:
        """The restores of each destination, oldest first."""
        found: dict[Path, list[LedgerLine]] = {}
        for line in self.lines:
            found.setdefault(line.destination, []).append(line)
        return {destination: tuple(lines) for destination, lines in found.items()}


EMPTY = Ledger(lines=(), bad=())


def read_ledger(path: Path) -> Ledger:
    """Reads the ledger; one that does not exist is empty.

    Raises `TryAgainLater` when it is there and cannot be read: taken for empty, it would restore everything again.
    """
    try:
        data = read_plain(path)
    except FileNotFoundError:
        return EMPTY
    except OSError as error:
        raise TryAgainLater(
            f"{printable(str(path))}: {error.strerror or error}", remedy="Nothing is replicated while the ledger cannot be read."
        ) from error
    return parse_ledger(data)


def parse_ledger(data: bytes) -> Ledger:
    """Returns the ledger in these bytes."""
    lines: list[LedgerLine] = []
    bad: list[BadLine] = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        if not raw.strip() or raw.startswith(b"#"):
            continue
        found = _parse(raw)
        if isinstance(found, LedgerLine):
            lines.append(found)
        else:
            bad.append(BadLine(number=number, why=found))
    return Ledger(lines=tuple(lines), bad=tuple(bad))


def append_restore(path: Path, line: LedgerLine) -> bool:
    """Adds a restore, durably. Returns False if the same line is there already (after a crash). Raises `OSError`."""
    text = render(line).encode()
    at = _offset_of(text, path)
    if at is None:
        durable.append_line(path, text)
        return True
    durable.write_again(path, text, at)
    return False


def _offset_of(text: bytes, path: Path) -> int | None:
    """Returns the offset of a whole line in the ledger, None if it is not there."""
    try:
        data = b"\n" + read_plain(path) + b"\n"
    except FileNotFoundError:
        return None
    found = data.find(b"\n" + text + b"\n")
    return found if found >= 0 else None


def render(line: LedgerLine) -> str:
    """Returns the line as it is written, without its newline."""
    stamp = f"{line.time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    body = "|".join([stamp, *_escaped((str(line.archive), printable(str(line.destination)), printable(line.job)))])
    return f"{body}|{_check(body)}"


def _parse(raw: bytes) -> LedgerLine | str:
    """Returns the restore that a line names, or why it names none."""
    try:
        text = raw.rstrip(b"\r").decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    body, bar, check = text.rpartition("|")
    if not bar or check != _check(body):
        return "its checksum does not fit: torn or edited"
    try:
        time, archive, destination, job = body.split("|")
        return LedgerLine(
            time=dt.datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC),
            archive=parse_ref(archive),
            destination=Path(unescape_name(destination)),
            job=unescape_name(job),
        )
    except ValueError:
        return "written by another version of this program"


def _escaped(texts: Iterable[str]) -> list[str]:
    return [text.replace("|", "%7C") for text in texts]


def _check(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:_CHECK_DIGITS]


def job_name(archive: ArchiveRef, destination: Path, *, vm: str, stamp: str) -> str:
    """Returns the name of the job of a rule, `auto-CRM-2007.09.21-0300-1f2e3d4c5b`: the same restore always has the same name."""
    key = f"{archive}\n{destination}".encode("utf-8", "surrogateescape")
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", vm)[:80].strip(".") or "vm"
    return f"{_PREFIX}{readable}-{stamp}-{hashlib.sha256(key).hexdigest()[:10]}"


def from_rule(job: str) -> bool:
    """Whether a job of this name comes from a rule; such a job is entered into the ledger when it is done."""
    return job.startswith(_PREFIX)
