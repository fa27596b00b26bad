"""Reads and writes `restored.log`, the ledger: one line for each verified restore. A person may delete lines, or the file.

    2026-11-22T14:03:11Z|nas1:2007.09.21-CRM.564d.../00-CRM.vmdk.delta-....phd|/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk|JOB|5f0c1e8a9b3d4c27

The restore of a deleted line is allowed again. The last field is the start of the SHA-256 of all before it: a torn or edited
line is reported, and does not count as a restore. Lines that start with `#` and empty ones are comments. Only the daemon
writes the ledger, after the disk is durable and before its job becomes done.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from restore_core import durable
from restore_core.errors import TryAgainLater, remedy_for
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
    """What was restored, in the order of the file, and the lines that name no restore."""

    lines: tuple[LedgerLine, ...]
    bad: tuple[BadLine, ...]


EMPTY = Ledger(lines=(), bad=())


def read_ledger(path: Path) -> Ledger:
    """Reads the ledger; one that does not exist is empty.

    Raises `TryAgainLater` when it exists and cannot be read: as an empty one it would make all rules restore again.
    """
    try:
        data = durable.read_plain(path)
    except FileNotFoundError:
        return EMPTY
    except OSError as error:
        raise TryAgainLater(
            f"{printable(str(path))}: {error.strerror or error}",
            remedy=f"{remedy_for(error)} Nothing is replicated while the ledger cannot be read.",
        ) from error
    return parse_ledger(data)


def parse_ledger(data: bytes) -> Ledger:
    """Returns the ledger in these bytes."""
    texts = [(number, raw) for number, raw in enumerate(data.split(b"\n"), 1) if raw.strip() and not raw.startswith(b"#")]
    found = [(number, _parse(raw)) for number, raw in texts]
    return Ledger(
        lines=tuple(line for _, line in found if isinstance(line, LedgerLine)),
        bad=tuple(BadLine(number=number, why=why) for number, why in found if isinstance(why, str)),
    )


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
        data = b"\n" + durable.read_plain(path) + b"\n"
    except FileNotFoundError:
        return None
    found = data.find(b"\n" + text + b"\n")
    return found if found >= 0 else None


def render(line: LedgerLine) -> str:
    """Returns the line as it is written, without its newline."""
    stamp = f"{line.time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    fields = (stamp, str(line.archive), printable(str(line.destination)), printable(line.job))
    body = "|".join(field.replace("|", "%7C") for field in fields)
    return f"{body}|{_check(body)}"


def _parse(raw: bytes) -> LedgerLine | str:
    """Returns the restore that a line names, or why it names none."""
    try:
        text = raw.rstrip(b"\r").decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    body, bar, check = text.rpartition("|")
    if not bar or check != _check(body):
        return "its checksum is wrong: the line was torn or edited"
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
