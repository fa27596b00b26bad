"""The rules of replication in the hands of a person: the editor for them, and what to mend after a pass.

The editor is the person's own: $VISUAL, else $EDITOR, else nano or vi.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.host.signals import deaf_to_interrupts
from phd_daemon.replication.pass_record import Pass
from restore_core.errors import UsageError
from restore_core.naming import printable

_FALLBACKS = ("nano", "vi")


def edit_file(path: Path) -> None:
    """Runs the editor on a file and returns when it has ended. Raises `UsageError` if there is none, or if it failed."""
    command = _command()
    try:
        with deaf_to_interrupts():
            code = subprocess.call([*command, os.fspath(path)])  # noqa: S603  the person's own choice, as git and crontab do
    except OSError as error:
        raise UsageError(f"the editor {printable(command[0])}: {error.strerror}", remedy="Set VISUAL or EDITOR.") from error
    if code != 0:
        raise UsageError(f"the editor {printable(command[0])} ended with code {code}: nothing was changed")


def _command() -> list[str]:
    for variable in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(os.environ.get(variable, ""))
        except ValueError as error:
            raise UsageError(f"${variable} cannot be understood: {error}", remedy=f"Set {variable} to an editor.") from error
        if words:
            return words
    found = next((name for name in _FALLBACKS if shutil.which(name)), None)
    if found is None:
        raise UsageError("there is no editor: neither nano nor vi is installed", remedy="Set VISUAL or EDITOR to one.")
    return [found]


def troubles(done: Pass, *, problems: bool = True) -> Iterator[str]:
    """Yields one message for each thing that a person should mend; with `problems` also those of single lines of the rules."""
    found = done.findings
    yield from found.notes
    yield from (f"rules, {problem}" for problem in found.problems if problems)
    yield from (f"ledger, line {bad.number}: {bad.why}: it is not taken for a restore" for bad in found.bad_lines)
    yield from (f"{target.problem}: its last listing is used" for target in found.targets if target.problem)
    yield from (f"{target.partial}: what it held there before is used" for target in found.targets if target.partial)
    for one in found.decisions:
        yield from (f"rules, line {one.rule.line}: {warning}" for warning in one.warnings)
