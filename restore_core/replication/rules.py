"""Parses `vmdks.auto`, the file of rules, in the grammar of 2007. Pure: bytes in, rules and problems out.

    # a comment                                                             and empty lines
    USE_DAYS=-3                                                             once, for all rules without a number of their own
    RESTORE:VM_NAME|UUID_OF_VM|SCSI_ID|VMDK_NAME|Complete_Restore_Path|Use_Days

A UUID or SCSI id that is `*` or `%` fits any. `-N` restores the newest backup that is at least N x 24 hours old. Fields are taken
as they are, with the spaces inside; blanks at the end of a line are dropped. Other characters are written %HH (`|` is %7C, `%`
before two hex digits is %25). A wrong line is not followed, and the other lines are; only a wrong USE_DAYS also stops the rules
without a number of their own. Two rules for one disk are both not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from pathlib import Path

from restore_core.errors import BadRule
from restore_core.naming import comparable, disk_path, is_below, is_scsi_id, printable, unescape_name

MAX_BYTES = 4 << 20
_PREFIX = "RESTORE:"
_DAYS_KEY = "USE_DAYS="
_ANY = ("*", "%")
_DAYS = re.compile(r"(?:-\d{1,5}|0)\Z", re.ASCII)
_FIELDS = ("VM name", "UUID", "SCSI id", "VMDK name", "restore path", "days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One disk to restore. `uuid` and `scsi` are None for any; a backup must be at least `days` times 24 hours old."""

    line: int
    vm: str
    uuid: str | None
    scsi: str | None
    vmdk: str
    destination: Path
    days: int

    @property
    def names(self) -> tuple[str, str]:
        """VM and disk, to be compared."""
        return comparable(self.vm), comparable(self.vmdk)

    def __str__(self) -> str:
        days = f", at least {self.days} {'day' if self.days == 1 else 'days'} old" if self.days else ""
        return f"{printable(self.vm)}/{printable(self.vmdk)} to {printable(str(self.destination))}{days}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """What is wrong in a line. `line` and `column` count from 1; 0 means the file as a whole."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}" if self.line else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules that are followed, in the order of the file, and what is wrong with the other lines."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]


class _Wrong(Exception):
    """A line is not a rule; `column` counts from 1."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column, self.message = column, message

    def at(self, line: int) -> Problem:
        return Problem(line=line, column=self.column, message=self.message)


def as_written(path: Path) -> Hashable:
    """Returns a key that is equal for two paths that differ only in `.`, `..` and slashes."""
    return os.path.normpath(path)


def parse_rules(data: bytes, *, roots: Collection[Path] | None, key: Callable[[Path], Hashable] = as_written) -> RuleSet:
    """Returns the rules in these bytes. With `roots` each destination must be in a datastore, a direct child of one of them.

    `key` is equal for two paths to one disk. Raises `BadRule` for bytes that cannot be such a file.
    """
    if len(data) > MAX_BYTES or b"\0" in data:
        raise BadRule(
            "this is not a file of rules: it holds NUL bytes or is larger than 4 MiB", remedy="Restore vmdks.auto from a copy."
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
    """The fields of the lines, before they are checked as rules. `days` is None after a wrong USE_DAYS."""

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
            raise _Wrong(1, "a second USE_DAYS: one is for all rules; a rule's own number is at the end of its line")
        self._days_seen, self.days = True, None
        self.days = _number(len(_DAYS_KEY) + 1, text[len(_DAYS_KEY) :])


def names_disk(rule: Rule, *, vm: str, uuid: str | None, scsi: str, vmdk: str) -> bool:
    """Returns whether a rule asks for this disk. A version-2 backup has no UUID: only a wildcard fits it."""
    if rule.names != (comparable(vm), comparable(vmdk)) or rule.scsi not in (None, scsi):
        return False
    return rule.uuid is None or (uuid is not None and rule.uuid.lower() == uuid.lower())


def render_rule(*, vm: str, uuid: str | None, scsi: str, vmdk: str, destination: Path) -> str:
    """Returns the line for this disk, without its newline."""
    return _PREFIX + "|".join((_field(vm), uuid or _ANY[0], scsi, _field(vmdk), _field(str(destination))))


def _text_of(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").rstrip(" \t\r")
    except UnicodeDecodeError as error:
        raise _Wrong(error.start + 1, "from here on this is not UTF-8: write such bytes as %HH") from None
    for column, character in enumerate(text, 1):
        if character != "%" and printable(character) != character and not text.startswith("#"):
            raise _Wrong(column, f"a line cannot hold this character: write it as {printable(character)}")
    return text


def _split(text: str) -> list[tuple[int, str]]:
    """Returns the fields of a rule, each with its column."""
    if not text.startswith(_PREFIX):
        if text.lstrip().upper().startswith(_PREFIX):
            raise _Wrong(1, f"{_PREFIX} must be at the start of the line, in capitals")
        raise _Wrong(1, f"this is not a rule: a line starts with {_PREFIX}, {_DAYS_KEY} or #")
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
            raise _Wrong(at, f"the {what} cannot be {name}: only UUID and SCSI id can")
    if uuid not in _ANY and (len(uuid) != 36 or "." in uuid):
        raise _Wrong(at_uuid, f"'{printable(uuid)}' is not a UUID: write its 36 characters as in the name of the folder, or *")
    if scsi not in _ANY and not is_scsi_id(scsi):
        hint = f": write {scsi.replace(':', '')}" if is_scsi_id(scsi.replace(":", "")) else ", like 00 for 0:0, or *"
        raise _Wrong(at_scsi, f"'{printable(scsi)}' is not an SCSI id{hint}")
    own = parts[5] if len(parts) == 6 and parts[5][1].strip() else None
    days = _number(own[0], own[1].strip()) if own else default
    if days is None:  # a typing error must not bring a copy up to date that is to stay days behind
        raise _Wrong(1, "this rule takes its days from USE_DAYS, which is wrong: it is not followed until that line is right")
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
    try:
        path = disk_path(text)
    except ValueError as error:
        raise _Wrong(column, f"the restore path {error}") from None
    if roots is not None and not is_below(path.parent, roots):
        known = ", ".join(printable(str(root)) for root in roots)
        raise _Wrong(column, f"the restore path is not in a datastore (a folder directly below {known})")
    return path


def _number(column: int, text: str) -> int:
    if not _DAYS.match(text):
        hint = f", write -{text}" if text.isascii() and text.isdigit() and len(text) < 6 else ""
        raise _Wrong(column, f"'{printable(text)}' is not a number of days like -3{hint}")
    return -int(text)


def _one_a_disk(rules: list[Rule], columns: dict[int, int], key: Callable[[Path], Hashable]) -> tuple[list[Rule], list[Problem]]:
    """Returns the rules whose destination no other rule has, and a problem for each other one: the copy there could be either's."""
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
    """Returns a name as it is written between two bars."""
    escaped = printable(text).replace("|", "%7C")
    if escaped in _ANY:
        return "".join(f"%{ord(character):02X}" for character in escaped)
    return re.sub("^ +| +$", lambda blanks: "%20" * len(blanks[0]), escaped)
