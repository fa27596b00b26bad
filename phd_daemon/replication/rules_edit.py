"""Changes of vmdks.auto by a person: edits a copy and checks it before it takes effect, or appends rules for all known VMDKs.

copy > editor > check    good                 replaces the file at once, durably, with the owner and mode it had
                         bad lines            the person decides: edit again, keep (a bad line disables itself only), throw away
                         no rules at all      edit again, or throw away

A pass that runs meanwhile sees the old file or the new one. If the file itself changed while its copy was edited it is not
replaced. Those who change it take turns by a lock on its folder, since the file is replaced. The copy is deleted only when the
person says so: after ^C and any failure it stays, and the message says where.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.host.catalog import fresh_catalog
from phd_daemon.replication.rules_file import parse
from restore_core import durable
from restore_core.errors import BadRule, PhdError, Stopped, TryAgainLater, UsageError, from_os_error
from restore_core.naming import ArchiveType, printable
from restore_core.replication.loading import new_lines

_BEGINNING = b"# RESTORE:VM_NAME|UUID_OF_VM|SCSI_ID|VMDK_NAME|Complete_Restore_Path|Use_Days\n"


class CopyAnswer(enum.Enum):
    """What to do with a copy that is not good."""

    AGAIN = "edit again"
    KEEP = "keep it with its bad lines, which disable themselves only"
    THROW_AWAY = "throw the changes away"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRules:
    """An edited copy: how many rules are right, what is wrong, and whether it can be kept at all (`readable`)."""

    rules: int
    problems: tuple[str, ...]
    readable: bool

    @property
    def answers(self) -> tuple[CopyAnswer, ...]:
        """What may be done with the copy."""
        return tuple(answer for answer in CopyAnswer if self.readable or answer is not CopyAnswer.KEEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """How an edit ended. `installed` is False for rules that were not changed, or thrown away."""

    installed: bool
    checked: CheckedRules


def edit(config: Config, *, editor: Callable[[Path], None], decide: Callable[[CheckedRules], CopyAnswer]) -> Edited:
    """Lets a person edit the rules. `editor` returns when the person closes the file; `decide` is asked about a bad one.

    Raises `TryAgainLater` when the file changed meanwhile, `Stopped` for ^C, `UsageError` for an editor that failed, `PhdError`
    where a file cannot be read or written. All of them say where the copy is, if it holds changes.
    """
    path = Path(os.path.realpath(config.replication.rules))
    before, like = _read(path)
    folder = Path(tempfile.mkdtemp(prefix="phd-rules-"))
    copy = folder / path.name
    try:
        copy.write_bytes(before or _BEGINNING)
        edited = _edit_copy(copy, config, editor, decide)
        if edited.installed:
            edited = _install(path, _written(copy), before, like, edited)
    except BaseException as error:
        if _nothing_in(copy, before):
            shutil.rmtree(folder)
            raise
        kept = f"What you wrote is in {printable(str(copy))}."
        if isinstance(error, KeyboardInterrupt):
            raise Stopped("interrupted: the rules are as they were", remedy=kept) from None
        if isinstance(error, OSError):
            where = printable(os.fsdecode(error.filename or path))
            error = from_os_error(error, doing="the rules are as they were", where=where)
        if isinstance(error, PhdError):
            error.remedy = kept
        else:
            error.add_note(kept)
        raise error from None
    shutil.rmtree(folder)
    return edited


def _nothing_in(copy: Path, before: bytes | None) -> bool:
    try:
        return _written(copy) == (before or _BEGINNING)
    except (OSError, UsageError):
        return not os.path.isfile(copy)  # one that cannot be read now may hold changes


def check(data: bytes, config: Config) -> CheckedRules:
    """Checks the rules in these bytes."""
    try:
        found = parse(data, config)
    except BadRule as error:
        return CheckedRules(rules=0, problems=(error.message,), readable=False)
    return CheckedRules(rules=len(found.rules), problems=tuple(map(str, found.problems)), readable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloaded:
    """How many rules were added, and why some targets could not be listed now: their last listing was used."""

    added: int
    silent: tuple[str, ...]


def preload_rules(config: Config, *, active: bool) -> Preloaded:
    """Lists all targets and appends a rule for every VMDK without one, commented out unless `active`. Raises `OSError`."""
    path = Path(os.path.realpath(config.replication.rules))
    with fresh_catalog(config, look=None) as catalog:
        found = [entry for entry in catalog.entries() if entry.name.type is ArchiveType.DELTA]
        silent = tuple(one.trouble for one in catalog.known() if one.trouble)
    with _changing(path):
        lines = new_lines(_read(path)[0] or b"", found, datastore=config.replication.default_datastore, active=active)
        if lines:
            durable.append_line(path, "\n".join(lines).encode())
    return Preloaded(added=len(lines), silent=silent)


def _edit_copy(copy: Path, config: Config, editor: Callable[[Path], None], decide: Callable[[CheckedRules], CopyAnswer]) -> Edited:
    while True:
        editor(copy)
        checked = check(_written(copy), config)
        answer = decide(checked) if checked.problems else CopyAnswer.KEEP
        if answer is not CopyAnswer.AGAIN:
            return Edited(installed=answer is CopyAnswer.KEEP, checked=checked)


def _install(path: Path, new: bytes, before: bytes | None, like: os.stat_result | None, edited: Edited) -> Edited:
    if new == (before or _BEGINNING):
        return Edited(installed=False, checked=edited.checked)
    with _changing(path):
        if _read(path)[0] != before:
            raise TryAgainLater(f"{printable(str(path))} has changed while its copy was edited: nothing was put in place")
        durable.write_whole(path, new, mode=0o644, like=like, replace=like is not None)
    return edited


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Holds a lock, for one writer at a time, from reading the file to its change."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # NFS cannot lock a folder: there only the comparison protects
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _read(path: Path) -> tuple[bytes | None, os.stat_result | None]:
    """Returns the bytes of a file and its facts, None if there is none. Raises `UsageError` for a FIFO and the like."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, None
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError(f"{printable(str(path))} is no regular file", remedy="Put a plain file there, and edit it again.")
        return file.read(), facts


def _written(copy: Path) -> bytes:
    """Returns the copy as the editor left it. Raises `UsageError` when it is gone, `OSError`."""
    data, _ = _read(copy)
    if data is None:
        raise UsageError("the editor left no file behind: nothing was changed")
    return data
