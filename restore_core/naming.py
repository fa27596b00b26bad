"""Reads and makes the names of folders and archives, checks the path of a disk, and prints names from outside.

    YYYY.MM.DD-VMNAME.UUID/                                   folder of one VM's backups of one day
        SS-NAME.vmdk.gz-YYMMDD-HHMM.phd                       Full
        SS-NAME.vmdk.delta-YYYY.MM.DD-HHMM-YYMMDD-HHMM.phd    Delta; the second stamp is its Full's

`SS` is the SCSI id without the colon; its first digit is the controller: `00` is 0:0, `010` is 0:10. Disks on other
controllers have the bus before it (`sata00`), so that no two disks of a VM have the same name. A folder of another form is
a version-2 backup, and its whole name is the VM name. Stamps are local to the target's time zone; the exact time is in the
header of the Delta. `HHMM` is `HHMMSS` in the name of a second backup within a minute, and where a person asked for seconds:
versions before pass such a name over, so the first of a minute keeps the short form.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

_FOLDER = re.compile(r"(?P<date>\d{4}\.\d{2}\.\d{2})-(?P<vm>.+)\.(?P<uuid>[^.]{36})\Z", re.DOTALL)
_SCSI = r"(?:ide|sata|nvme)?\d{2,4}"
_SCSI_ID = re.compile(_SCSI + r"\Z", re.ASCII)
FULL_STAMP = r"\d{6}-\d{4}(?:\d\d)?"
DELTA_STAMP = r"\d{4}\.\d\d\.\d\d-\d{4}(?:\d\d)?"
"""How stamps look, for those who look at names without parsing them."""

_FULL = re.compile(rf"(?P<scsi>{_SCSI})-(?P<disk>.+)\.gz-(?P<stamp>{FULL_STAMP})\.phd\Z", re.DOTALL)
_DELTA = re.compile(rf"(?P<scsi>{_SCSI})-(?P<disk>.+)\.delta-(?P<stamp>{DELTA_STAMP})-(?P<base>{FULL_STAMP})\.phd\Z", re.DOTALL)
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FLAT = "-flat.vmdk"
MAX_NAME_BYTES = 255


class ArchiveType(enum.Enum):
    """The two types of archives."""

    FULL = "full"
    DELTA = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What a folder's name says. For a version-2 folder `date` and `uuid` are None and `vm` is the whole name."""

    vm: str
    uuid: str | None
    date: dt.date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveName:
    """What an archive's name says. `base_stamp` is the stamp of the Full that a Delta needs, None for a Full.

    Both stamps are naive local times of the target, to the minute or the second; `time_in` returns an aware one.
    """

    type: ArchiveType
    scsi: str
    disk: str
    stamp: dt.datetime
    base_stamp: dt.datetime | None

    @property
    def empty_delta(self) -> bool:
        """Whether it is the empty Delta that is made with every Full."""
        return self.type is ArchiveType.DELTA and self.stamp == self.base_stamp

    def time_in(self, zone: ZoneInfo) -> dt.datetime:
        """Returns the stamp as an aware time in UTC; `zone` is that of the target."""
        return self.stamp.replace(tzinfo=zone).astimezone(dt.UTC)


def parse_folder(name: str) -> Folder:
    """Returns what a folder's name says. Any name is allowed: one of another form is a version-2 host."""
    match = _FOLDER.match(name)
    date = _date(match["date"]) if match else None
    if match is None or date is None:
        return Folder(vm=name, uuid=None, date=None)
    return Folder(vm=match["vm"], uuid=match["uuid"], date=date.date())


def folder_name(*, date: dt.date, vm: str, uuid: str) -> str:
    """Returns the name of the folder of a backup made on `date` (local to the target)."""
    return f"{date:%Y.%m.%d}-{vm}.{uuid}"


def parse_archive(name: str) -> ArchiveName | None:
    """Returns what an archive's name says; None if the file is not ours."""
    if len(name) > MAX_NAME_BYTES:
        return None
    if match := _DELTA.match(name):
        stamp, base = _date(match["stamp"]), _short_stamp(match["base"])
        if stamp is None or base is None:
            return None
        return ArchiveName(type=ArchiveType.DELTA, scsi=match["scsi"], disk=match["disk"], stamp=stamp, base_stamp=base)
    if match := _FULL.match(name):
        stamp = _short_stamp(match["stamp"])
        if stamp is None:
            return None
        return ArchiveName(type=ArchiveType.FULL, scsi=match["scsi"], disk=match["disk"], stamp=stamp, base_stamp=None)
    return None


def full_name(*, scsi: str, disk: str, stamp: dt.datetime) -> str:
    """Returns the name of a Full; `disk` is the VMDK's name with its suffix, `stamp` local to the target."""
    return f"{scsi}-{disk}.gz-{stamp:%y%m%d}-{_clock(stamp)}.phd"


def delta_name(*, scsi: str, disk: str, stamp: dt.datetime, base: dt.datetime) -> str:
    """Returns the name of a Delta; `base` is the stamp of its Full."""
    return f"{scsi}-{disk}.delta-{stamp:%Y.%m.%d}-{_clock(stamp)}-{base:%y%m%d}-{_clock(base)}.phd"


def _clock(stamp: dt.datetime) -> str:
    return f"{stamp:%H%M%S}" if stamp.second else f"{stamp:%H%M}"


def time_text(time: dt.datetime) -> str:
    """Returns the time of a backup as people read it: `2026-11-24 03:00`, with seconds where its name has them."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time.second else f"{time:%Y-%m-%d %H:%M}"


def restored_name(disk: str) -> str:
    """Returns the name under which the disk of an archive is restored: itself, but for `X-flat.vmdk`, which is `X.vmdk`.

    Older versions called the backup of a flat file without a descriptor by the name of that file, which no disk can have.
    """
    return disk[: -len(_FLAT)] + disk[-len(".vmdk") :] if disk.lower().endswith(_FLAT) else disk


def is_scsi_id(text: str) -> bool:
    """Returns whether this is an SCSI id as names have it: `00`, `010`, `sata00`."""
    return _SCSI_ID.match(text) is not None


def scsi_colon(scsi: str) -> str:
    """Returns the id as VMware writes it: `010` -> `0:10`, `sata00` -> `sata0:0`."""
    digits = scsi.lstrip("adeimnstv")
    bus = scsi[: len(scsi) - len(digits)]
    return f"{bus}{digits[:1]}:{digits[1:]}"


def comparable(name: str) -> str:
    """Returns the form under which names are compared, never shown and never stored: accents joined to their letters (NFC).

    macOS and some servers store `ü` as `u` and two dots (NFD): nobody sees the difference, and nobody can type it. Characters that
    only resemble each other (the ligature `ﬁ` and `fi`) stay different.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_below(path: Path, folders: Collection[Path]) -> bool:
    """Returns whether the path lies below one of these folders, in whichever spelling. Looks at no file."""
    parts = tuple(map(comparable, path.parts))
    return any(len(parts) > len(each.parts) and parts[: len(each.parts)] == tuple(map(comparable, each.parts)) for each in folders)


def other_spellings(path: str) -> Iterator[str]:
    """Yields the path of an archive with its accents joined and apart, of folder and name each: a target takes them as stored."""
    folder, slash, name = path.rpartition("/")
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    every = (unicodedata.normalize(one, folder) + slash + unicodedata.normalize(other, name) for one in forms for other in forms)
    yield from (other for other in dict.fromkeys(every) if other != path)


def searchable(text: str) -> str:
    """Returns the form in which a person's words are looked for: as `comparable`, in either case."""
    return comparable(comparable(text).casefold())


def printable(name: str | bytes) -> str:
    """Returns a name from outside in printable form: control and other invisible characters and bad UTF-8 become `%HH`.

    `%` becomes `%25`, so that `unescape_name` returns the same name again (F64 in docs/faults.md).
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if text.isascii() and text.isprintable() and "%" not in text:
        return text  # almost every name, 20 times as fast
    return "".join(_escape(c) if c == "%" or unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def unescape_name(text: str) -> str:
    """Returns the name that `printable` escaped: `%HH` becomes its byte again."""
    return urllib.parse.unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def disk_path(text: str) -> Path:
    """Returns the path that an escaped text names as the place of a disk. Raises `ValueError`; looks at no file."""
    name = unescape_name(text)
    path = Path(name)
    if not path.is_absolute() or ".." in path.parts or name.endswith(("/", "/.")) or "\0" in name:
        raise ValueError("must be the path of the disk: it starts with /, ends with a file's name, and holds no '..'")
    if path.name.lower().endswith(_FLAT):
        raise ValueError("names a flat file; name the disk (NAME.vmdk), its flat file goes beside it")
    return path


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _short_stamp(text: str) -> dt.datetime | None:
    return _date("20" + text)  # years are 20YY


def _date(text: str) -> dt.datetime | None:
    """Returns the time in a stamp, None if there is no such time. strptime took most of the time of a catalog of 100,000."""
    digits = text.replace(".", "").replace("-", "")
    try:
        year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
        hour, minute, second = int(digits[8:10] or 0), int(digits[10:12] or 0), int(digits[12:14] or 0)
        return dt.datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - a stamp is local to the target; its zone is not in the name
    except ValueError:
        return None
