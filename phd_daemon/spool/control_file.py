"""Parses, checks and writes control files: short, flat TOML that asks for a restore.

    delta, restore_to                                                       required
    full, overwrite, vmx, provision, readback, priority, note, session      optional

`parse_control_file` is pure, and refuses a wrong file with all its problems, each with its line. `check_policy` compares a
control file with what this installation allows. `render_control_file` makes the text of one.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phd_daemon.config.toml_text import NotToml, did_you_mean, key_lines, parse_toml
from restore_core.disk.destination import names_for
from restore_core.disk.session_record import SESSION_ID
from restore_core.disk.spelling import is_within
from restore_core.durable import read_plain
from restore_core.errors import ArchiveAbsent, BadControlFile, DestinationOutside
from restore_core.naming import ArchiveType, delta_name, disk_path, is_below, parse_archive, printable
from restore_core.restore.request import OPTION_PARSERS, RestoreOptions
from restore_core.targets import parse_ref
from restore_core.targets.base import LOCAL, ArchiveRef, safe_parts

if TYPE_CHECKING:
    from phd_daemon.config.model import SubmitterLimits

MAX_BYTES = 64 << 10
MAX_NOTE = 500
_GZIP_MAGIC = b"\x1f\x8b"
_REMEDY = "Correct the file and rename it back to .job, or write a new one. 'phd submit' makes a correct one."
_PASSWORD = re.compile(r"//.*@", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """What a control file asks for. `restore_to` is absolute and holds no `..`; `priority` is 0 (first) to 9 (last)."""

    delta: ArchiveRef
    restore_to: Path
    full: ArchiveRef | None = None
    options: RestoreOptions = field(default_factory=RestoreOptions)
    priority: int = 5
    note: str = ""
    session: str = ""
    """The id of the instant session whose job this is; empty for every other restore."""


def parse_control_file(text: bytes) -> ControlFile:
    """Returns what these bytes ask for. Raises `BadControlFile` with all problems, one on each line."""
    if len(text) > MAX_BYTES:
        raise BadControlFile(f"larger than {MAX_BYTES} bytes: that is not a control file", remedy=_REMEDY)
    if not text.strip():
        raise BadControlFile("the file is empty", remedy=_REMEDY)
    try:
        table, readable = parse_toml(text)
    except NotToml as error:
        raise BadControlFile(_at(error.line, error.message), line=error.line, remedy=f"{error.advice} {_REMEDY}".strip()) from error
    lines = key_lines(readable)
    problems = [(0, f"{key} is missing") for key in _REQUIRED if key not in table]
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _read(key, value)
        except ValueError as error:
            problems.append((lines.get((key,), 0), f"{printable(key)}: {error}"))
    if problems:
        everything = "\n".join(_at(line, what) for line, what in sorted(problems))
        raise BadControlFile(everything, line=next((line for line, _ in problems if line), 0), remedy=_REMEDY)
    options = RestoreOptions(**{key: values.pop(key) for key in OPTION_PARSERS if key in values})
    return ControlFile(options=options, **values)


def check_policy(
    control: ControlFile, *, roots: Collection[Path], target_names: Collection[str], submitter: str, limits: SubmitterLimits | None
) -> None:
    """Raises `BadControlFile` or `DestinationOutside` for what this installation, or `limits` of the submitter, does not allow.

    Raises `DestinationError` for a name that no attempt could give to a disk: too long, or kept for unfinished files.
    Paths are compared as they are written: a link that leads out of the datastore is found when the disk is opened.
    """
    for key, ref in (("delta", control.delta), ("full", control.full)):
        if ref is not None and ref.target != LOCAL and ref.target not in target_names:
            known = ", ".join(sorted(target_names)) or "none"
            raise BadControlFile(
                f"{key}: no target is named '{printable(ref.target)}'{did_you_mean(ref.target, target_names)}; configured: {known}",
                remedy="Name a target of phd.toml, or a local file by a path that starts with /.",
            )
    _refuse_wrong_archive(control)
    if not is_below(control.restore_to.parent, roots):
        raise DestinationOutside(
            f"restore_to: {printable(str(control.restore_to))} is not in a datastore",
            remedy=f"Name a disk in a datastore, a folder directly in {_names(roots)}: {_example(roots, control.restore_to)}. "
            "Or add a root to [datastores] in phd.toml.",
        )
    names_for(control.restore_to, confined=True)
    if limits is not None:
        _refuse_beyond_limits(control, submitter, limits)


def render_control_file(control: ControlFile) -> str:
    """Returns the text of a control file; keys with their default value are left out."""
    written: dict[str, object] = {}
    for one in fields(control):
        value = getattr(control, one.name)
        if isinstance(value, RestoreOptions):
            written |= value.chosen()
        elif one.default is MISSING or value != one.default:
            written[one.name] = value
    return "".join(f"{key} = {_toml(value)}\n" for key, value in written.items())


def _example(roots: Collection[Path], wanted: Path) -> str:
    return printable(str(min(roots, default=Path("/")) / "DATASTORE" / (wanted.name or "NAME.vmdk")))


def _refuse_wrong_archive(control: ControlFile) -> None:
    name = parse_archive(control.delta.name)
    if name is None and control.delta.target != LOCAL and not control.delta.folder:
        raise BadControlFile(
            f"delta: {control.delta} is no archive: its folder is missing",
            remedy=f"Write {control.delta.target}:FOLDER/NAME.phd, as 'phd backups' prints it.",
        )
    if name is not None and name.type is ArchiveType.FULL:
        empty = control.delta.beside(delta_name(scsi=name.scsi, disk=name.disk, stamp=name.stamp, base=name.stamp))
        raise BadControlFile(
            f"delta: {control.delta} is a Full. A Full cannot be queued",
            remedy=f"Its empty Delta is {empty}: name that one, or restore the Full in the foreground with 'phd restore'.",
        )
    if control.delta.target == LOCAL and _starts_like_gzip(control.delta.path):
        raise BadControlFile(
            f"delta: {control.delta} is a gzip file, so it is a Full. A Full cannot be queued",
            remedy="Name its empty Delta; 'phd adopt' makes one where there is none. Or restore the Full with 'phd restore'.",
        )
    full_name = parse_archive(control.full.name) if control.full is not None else None
    if full_name is not None and full_name.type is ArchiveType.DELTA:
        raise BadControlFile(f"full: {control.full} is a Delta", remedy="Name the Full, or leave the key out: phd finds it.")


def _refuse_beyond_limits(control: ControlFile, submitter: str, limits: SubmitterLimits) -> None:
    who = printable(submitter)
    if control.options.overwrite and not limits.overwrite:
        raise BadControlFile(
            f"overwrite: {who} may not replace disks",
            remedy=f"Restore to a new name; [submitters.{who}] in phd.toml forbids it.",
        )
    if limits.destinations and not is_within(control.restore_to, limits.destinations):
        raise DestinationOutside(
            f"restore_to: {who} may not restore to {printable(str(control.restore_to))}",
            remedy=f"[submitters.{who}] in phd.toml allows {_names(limits.destinations)}.",
        )


def _starts_like_gzip(path: str) -> bool:
    try:
        # The opening of a device (a tape, a watchdog) can have effects that no submitter may cause: so it is not opened.
        return stat.S_ISREG(os.stat(path).st_mode) and read_plain(path, 2) == _GZIP_MAGIC
    except OSError:
        return False  # the attempt will say what is wrong


def _names(paths: Collection[Path]) -> str:
    return ", ".join(printable(str(path)) for path in paths)


def _read(key: str, value: object) -> object:
    if key not in _READERS:
        raise ValueError(f"there is no such key{did_you_mean(key, _READERS)}")
    return _READERS[key](value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text in quotes")  # noqa: TRY004  a ValueError is one finding of many here
    return value


def _priority(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise ValueError("must be a whole number from 0 (first) to 9 (last)")
    return value


def _note(value: object) -> str:
    note = _text(value)
    if len(note) > MAX_NOTE:
        raise ValueError(f"must not be longer than {MAX_NOTE} characters")
    if printable(note.replace("%", "")) != note.replace("%", ""):
        raise ValueError("must be one line without control characters")
    return note


def _session(value: object) -> str:
    session = _text(value)
    if not SESSION_ID.fullmatch(session):
        raise ValueError("must be the id of an instant session, as 'phd instant list' prints it")
    return session


def _ref(value: object) -> ArchiveRef:
    text = _text(value)
    try:
        ref = parse_ref(text)
        if ref.target != LOCAL:
            safe_parts(ref.path, ref)
    except (ValueError, ArchiveAbsent):
        # Somebody may have written a URL with a password, which must not be in the message.
        shown = printable(_PASSWORD.sub("//...@", text))
        raise ValueError(f"'{shown}' is neither NAME:folder/file nor a path that starts with /") from None
    if "\0" in ref.path or ref.path.endswith("/"):
        raise ValueError(f"'{printable(text)}' does not name a file")
    return ref


def _restore_to(value: object) -> Path:
    return disk_path(_text(value))


_READERS: Mapping[str, Callable[[object], object]] = {
    "delta": _ref,
    "restore_to": _restore_to,
    "full": _ref,
    **OPTION_PARSERS,
    "priority": _priority,
    "note": _note,
    "session": _session,
}
_REQUIRED = ("delta", "restore_to")


def _at(line: int, what: str) -> str:
    return f"line {line}: {what}" if line else what


def _toml(value: object) -> str:
    """Returns a value as TOML writes it, a path escaped with `printable`."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
    text = printable(str(value)) if isinstance(value, Path) else str(value)
    # All escapes of JSON are valid in a TOML string; DEL is the one character that JSON does not escape and TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
