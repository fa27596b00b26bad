"""vmdks.auto changed by a person: edited on a copy that is checked before it takes effect, or preloaded with all known VMDKs.

copy > editor > check    good                 put in place at once, durably, with the owner and mode it had
                         bad lines            the person decides: edit again, keep (a bad line disables itself only), throw away
                         no rules at all      edit again, or throw away

A pass that runs meanwhile sees the old file or the new one. Where the file itself changed while its copy was edited nothing is
put in place. What a person wrote goes only when the person says so: after ^C and any failure the copy stays, and its place is said.
"""

from __future__ import annotations

import enum
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config import Config
from phd_daemon.known import fresh_catalog
from phd_daemon.rules_file import parse
from restore_core import durable
from restore_core.errors import BadRule, Stopped, TryAgainLater, UsageError
from restore_core.naming import ArchiveType, printable
from restore_core.replication.loading import new_lines

_BEGINNING = b"# RESTORE:VM_NAME|UUID_OF_VM|SCSI_ID|VMDK_NAME|Complete_Restore_Path|Use_Days\n"


class Answer(enum.Enum):
    """What a person wants done with a copy that is not good."""

    AGAIN = "edit again"
    KEEP = "keep it with its bad lines, which disable themselves only"
    THROW_AWAY = "throw the changes away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An edited copy: how many rules hold, what is wrong, and whether it can be kept at all (`readable`)."""

    rules: int
    problems: tuple[str, ...]
    readable: bool

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What may be done with it."""
        return tuple(answer for answer in Answer if self.readable or answer is not Answer.KEEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """How it ended: `installed` is False for rules that were not changed, or thrown away."""

    installed: bool
    checked: Checked


def edit(config: Config, *, editor: Callable[[Path], None], decide: Callable[[Checked], Answer]) -> Edited:
    """Let the person edit the rules. `editor` returns when it is done with a file; `decide` is asked about one that is not good.

    Raises `TryAgainLater` when the file changed meanwhile, `Stopped` for ^C, `UsageError` for an editor that failed, all of them
    saying where the copy is if there is something in it; and `OSError`.
    """
    path = Path(os.path.realpath(config.replication.rules))
    before, like = _read(path)
    folder = Path(tempfile.mkdtemp(prefix="phd-rules-"))
    copy = folder / path.name
    try:
        copy.write_bytes(before or _BEGINNING)
        edited = _edit_copy(copy, config, editor, decide)
        if edited.installed:
            edited = _install(path, copy.read_bytes(), before, like, edited)
    except (TryAgainLater, UsageError, KeyboardInterrupt) as error:
        if copy.read_bytes() == (before or _BEGINNING):
            shutil.rmtree(folder)
            raise
        kept = f"What you wrote is in {printable(str(copy))}."
        if isinstance(error, KeyboardInterrupt):
            raise Stopped("interrupted: the rules are as they were", remedy=kept) from None
        error.remedy = kept
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    return edited


def check(data: bytes, config: Config) -> Checked:
    """The rules in these bytes."""
    try:
        found = parse(data, config)
    except BadRule as error:
        return Checked(rules=0, problems=(error.message,), readable=False)
    return Checked(rules=len(found.rules), problems=tuple(map(str, found.problems)), readable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloaded:
    """How many lines were added, and why some targets' VMDKs are only those of their last listing."""

    added: int
    silent: tuple[str, ...]


def preload_rules(config: Config, *, active: bool) -> Preloaded:
    """Look at all targets and append a rule for every VMDK that has none, commented out unless `active`. Raises `OSError`."""
    path = config.replication.rules
    with fresh_catalog(config, look=None) as catalog:
        found = [entry for entry in catalog.entries() if entry.name.type is ArchiveType.DELTA]
        silent = tuple(one.problem for one in catalog.known() if one.problem)
    text = path.read_bytes() if path.exists() else b""
    lines = new_lines(text, found, datastore=config.replication.default_datastore, active=active)
    if lines:
        durable.append_line(path, "\n".join(lines).encode())
    return Preloaded(added=len(lines), silent=silent)


def _edit_copy(copy: Path, config: Config, editor: Callable[[Path], None], decide: Callable[[Checked], Answer]) -> Edited:
    while True:
        editor(copy)
        checked = check(copy.read_bytes(), config)
        answer = decide(checked) if checked.problems else Answer.KEEP
        if answer is not Answer.AGAIN:
            return Edited(installed=answer is Answer.KEEP, checked=checked)


def _install(path: Path, new: bytes, before: bytes | None, like: os.stat_result | None, edited: Edited) -> Edited:
    if new == (before or _BEGINNING):
        return Edited(installed=False, checked=edited.checked)
    if _read(path)[0] != before:
        raise TryAgainLater(f"{printable(str(path))} has changed while its copy was edited: nothing was put in place")
    durable.write_whole(path, new, mode=0o644, like=like, replace=like is not None)
    return edited


def _read(path: Path) -> tuple[bytes | None, os.stat_result | None]:
    try:
        with path.open("rb") as file:
            return file.read(), os.fstat(file.fileno())
    except FileNotFoundError:
        return None, None
