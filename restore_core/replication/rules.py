"""`vmdks.auto`, the grammar of 2007: a pure function from bytes to rules and problems.

    # a comment                                                             and empty lines
    USE_DAYS=-3                                                             once, for all rules without a number of their own
    RESTORE:VM_NAME|UUID_OF_VM|SCSI_ID|VMDK_NAME|Complete_Restore_Path|Use_Days

UUID and SCSI id may be `*` or `%`: any. `-N` restores the newest backup that is at least N x 24 hours old. Fields are taken as
they are, spaces inside included; blanks at the end of a line are not. A character that cannot stand in a line is written %HH
(`|` is %7C, `%` before two hex digits is %25). A line that is wrong disables itself only
(and a wrong USE_DAYS the rules that would go by it). Two rules for one disk disable each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

from restore_core.errors import BadRule
from restore_core.naming import printable, unescape_name

MAX_BYTES = 4 << 20
_PREFIX = "RESTORE:"
_DAYS_KEY = "USE_DAYS="
_ANY = ("*", "%")
_DAYS = re.compile(r"(?:-\d{1,5}|0)\Z", re.ASCII)
_SCSI = re.compile(r"(?:ide|sata|nvme)?\d{2,4}\Z", re.ASCII)
_FIELDS = ("VM name", "UUID", "SCSI id", "VMDK name", "restore path", "days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One disk to restore. `uuid` and `scsi` are None for any; `days` is how many times 24 hours old a backup must be."""

    line: int
    vm: str
    uuid: str | None
    scsi: str | None
    vmdk: str
    destination: Path
    days: int

    def __str__(self) -> str:
        days = f", at least {self.days} {'day' if self.days == 1 else 'days'} old" if self.days else ""
        return f"{printable(self.vm)}/{printable(self.vmdk)} to {printable(str(self.destination))}{days}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """What is wrong with a line; `line` and `column` count from 1, and are 0 for the file as a whole."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}" if self.line else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules that hold, in the order of the file, and everything that is wrong with the other lines."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]


class _Wrong(Exception):
    """A line that is no rule; `column` counts from 1."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column, self.message = column, message

    def at(self, line: int) -> Problem:
        return Problem(line=line, column=self.column, message=self.message)


def _as_written(path: Path) -> Hashable:
    return os.path.normpath(path)


def parse_rules(data: bytes, *, roots: Collection[Path] | None, key: Callable[[Path], Hashable] = _as_written) -> RuleSet:
    """The rules in these bytes. With `roots` each destination must lie in a datastore, a direct child of one of them.

    `key` is equal for two paths to one disk. Raises `BadRule` for bytes that are no such file at all.
    """
    if len(data) > MAX_BYTES or b"\0" in data:
        raise BadRule(
            "this is no list of rules: it holds NUL bytes or is larger than 4 MiB", remedy="Restore vmdks.auto from a copy."
        )
    sheet = _Sheet()
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            sheet.read(number, raw)
        except _Wrong as wrong:
            sheet.problems.append(wrong.at(number))
    rules = []
    for number, parts in sheet.found:
        try:
            rules.append(_rule(number, parts, sheet.days, roots))
        except _Wrong as wrong:
            sheet.problems.append(wrong.at(number))
    kept, twice = _one_a_disk(rules, {number: parts[4][0] for number, parts in sheet.found}, key)
    return RuleSet(rules=tuple(kept), problems=tuple(sorted([*sheet.problems, *twice])))


class _Sheet:
    """What the lines say, before it is known whether the rules among them hold. `days` is None once USE_DAYS was wrong."""

    def __init__(self) -> None:
        self.found: list[tuple[int, list[tuple[int, str]]]] = []
        self.problems: list[Problem] = []
        self.days: int | None = 0
        self._days_seen = False

    def read(self, number: int, raw: bytes) -> None:
        text = _text_of(raw)
        if not text or text.startswith("#"):
            return
        if not text.startswith(_DAYS_KEY):
            self.found.append((number, _split(text)))
            return
        if self._days_seen:
            raise _Wrong(1, "a second USE_DAYS: it stands once, for the whole file; a rule's own number goes at its end")
        self._days_seen, self.days = True, None
        self.days = _number(len(_DAYS_KEY) + 1, text[len(_DAYS_KEY) :])


def names_disk(rule: Rule, *, vm: str, uuid: str | None, scsi: str, vmdk: str) -> bool:
    """Whether a rule asks for this disk. A version-2 backup has no UUID: only a wildcard matches it."""
    if (rule.vm, rule.vmdk) != (vm, vmdk) or rule.scsi not in (None, scsi):
        return False
    return rule.uuid is None or (uuid is not None and rule.uuid.lower() == uuid.lower())


def render_rule(*, vm: str, uuid: str | None, scsi: str, vmdk: str, destination: Path) -> str:
    """A line that `parse_rules` reads as this disk, without its newline."""
    return _PREFIX + "|".join((_field(vm), uuid or _ANY[0], scsi, _field(vmdk), _field(str(destination))))


def _text_of(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").rstrip(" \t\r")
    except UnicodeDecodeError as error:
        raise _Wrong(error.start + 1, "not UTF-8 from here on: write such bytes as %HH") from None
    for column, character in enumerate(text, 1):
        if character != "%" and printable(character) != character and not text.startswith("#"):
            raise _Wrong(column, f"the character {printable(character)} cannot stand in a line: write it as it stands here")
    return text


def _split(text: str) -> list[tuple[int, str]]:
    """The fields of a rule, each with its column."""
    if not text.startswith(_PREFIX):
        if text.lstrip().upper().startswith(_PREFIX):
            raise _Wrong(1, f"{_PREFIX} must stand at the start of the line, in capitals")
        raise _Wrong(1, f"this is no rule: a line starts with {_PREFIX}, {_DAYS_KEY} or #")
    parts, column = [], len(_PREFIX) + 1
    for part in text[len(_PREFIX) :].split("|"):
        parts.append((column, part))
        column += len(part) + 1
    if len(parts) < 5:
        raise _Wrong(len(text) + 1, f"the {_FIELDS[len(parts)]} is missing: VM|UUID|SCSI|VMDK|PATH[|DAYS]")
    if len(parts) > 6:
        raise _Wrong(parts[6][0] - 1, "too many fields; a '|' inside a name is written %7C")
    for (at, part), name in zip(parts[:5], _FIELDS, strict=False):
        if not part.strip(" "):
            raise _Wrong(at, f"the {name} is empty")
    return parts


def _rule(number: int, parts: list[tuple[int, str]], default: int | None, roots: Collection[Path] | None) -> Rule:
    (at_vm, vm), (at_uuid, uuid), (at_scsi, scsi), (at_vmdk, vmdk), (at_path, path) = parts[:5]
    for at, name, what in ((at_vm, vm, _FIELDS[0]), (at_vmdk, vmdk, _FIELDS[3])):
        if name in _ANY:
            raise _Wrong(at, f"the {what} must be named: only UUID and SCSI id may be {name}")
    if uuid not in _ANY and (len(uuid) != 36 or "." in uuid):
        raise _Wrong(at_uuid, f"'{printable(uuid)}' is no UUID: 36 characters as in the name of the folder, or *")
    if scsi not in _ANY and not _SCSI.match(scsi):
        hint = f": write {scsi.replace(':', '')}" if _SCSI.match(scsi.replace(":", "")) else ", like 00 for 0:0, or *"
        raise _Wrong(at_scsi, f"'{printable(scsi)}' is no SCSI id{hint}")
    own = parts[5] if len(parts) == 6 and parts[5][1].strip() else None
    days = _number(own[0], own[1].strip()) if own else default
    if days is None:  # a copy that is to stay days behind must not be brought up to date by a slip of the pen
        raise _Wrong(1, "it takes its days from USE_DAYS, which is wrong: not followed until that line is right")
    return Rule(
        line=number,
        vm=unescape_name(vm),
        uuid=None if uuid in _ANY else uuid,
        scsi=None if scsi in _ANY else scsi,
        vmdk=unescape_name(vmdk),
        destination=_destination(at_path, path, roots),
        days=days,
    )


def _destination(column: int, text: str, roots: Collection[Path] | None) -> Path:
    name = unescape_name(text)
    path = Path(name)
    if not path.is_absolute() or ".." in path.parts or name.endswith(("/", "/.")) or "\0" in name:
        raise _Wrong(column, "the restore path is that of the disk: it starts with /, ends with a file's name, and holds no '..'")
    if path.name.endswith("-flat.vmdk"):
        raise _Wrong(column, "the restore path names a flat file; name the disk (NAME.vmdk), its flat file goes beside it")
    if roots is not None and not any(path.is_relative_to(root) and len(path.parts) - len(root.parts) >= 2 for root in roots):
        below = ", ".join(printable(str(root)) for root in roots)
        raise _Wrong(column, f"the restore path is not in a datastore (a folder directly below {below})")
    return path


def _number(column: int, text: str) -> int:
    if not _DAYS.match(text):
        hint = f", write -{text}" if text.isascii() and text.isdigit() and len(text) < 6 else ""
        raise _Wrong(column, f"'{printable(text)}' is no number of days like -3{hint}")
    return -int(text)


def _one_a_disk(
    rules: Iterable[Rule], columns: dict[int, int], key: Callable[[Path], Hashable]
) -> tuple[list[Rule], list[Problem]]:
    """Rules that share a destination refuse each other: nobody could say which copy lies there."""
    by_disk: dict[Hashable, list[Rule]] = {}
    for rule in rules:
        by_disk.setdefault(key(rule.destination), []).append(rule)
    kept, problems = [], []
    for same in by_disk.values():
        if len(same) == 1:
            kept += same
            continue
        for rule in same:
            others = ", ".join(str(other.line) for other in same if other is not rule)
            message = f"line {others} restores to the same disk, {printable(str(rule.destination))}: none of them is followed"
            problems.append(Problem(line=rule.line, column=columns[rule.line], message=message))
    return sorted(kept, key=lambda rule: rule.line), problems


def _field(text: str) -> str:
    """A name as it stands between two bars. `printable` takes care of the rest."""
    escaped = printable(text).replace("|", "%7C")
    if escaped in _ANY:
        return "".join(f"%{ord(character):02X}" for character in escaped)
    stripped = escaped.strip(" ")
    if stripped == escaped:
        return escaped
    lead, tail = len(escaped) - len(escaped.lstrip(" ")), len(escaped) - len(escaped.rstrip(" "))
    return "%20" * lead + stripped + "%20" * tail
