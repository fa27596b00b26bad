"""Runs the person's own editor: $VISUAL, else $EDITOR, else nano or vi."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from phd_daemon.host.signals import deaf_to_interrupts
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
