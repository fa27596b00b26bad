"""`phd --install-completion` and `--show-completion`: click's own script for bash or zsh, put where the shell looks for it."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from phd_daemon.show import output
from restore_core import durable
from restore_core.errors import UsageError
from restore_core.naming import printable

SHELLS = ("bash", "zsh")
_VARIABLE = "_PHD_COMPLETE"


def install(shell: str, command: click.Command) -> None:
    """Writes the script for this shell, for that of the person if none is named, and says how to use it."""
    shell = _known(shell)
    path = place(shell)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_whole(path, script(shell, command).encode(), mode=0o644)
    output.say(f"{printable(str(path))}: written\n{_activation(shell, path)}")


def print_script(shell: str, command: click.Command) -> None:
    """Prints the script, for a person who wants it in another place."""
    output.say(script(_known(shell), command))


def script(shell: str, command: click.Command) -> str:
    """Returns the script, which asks `phd` itself what may come next."""
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(shell)
    return found(command, {}, "phd", _VARIABLE).source()


def place(shell: str) -> Path:
    """Returns where this user's shell looks for the script; zsh has to be told to look there."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    if shell == "zsh":
        return data / "zsh/site-functions/_phd"
    return Path(os.environ.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion") / "completions/phd"


def _known(shell: str) -> str:
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise UsageError(f"{printable(name) or 'your shell'} is neither bash nor zsh", remedy="Write bash or zsh after the option.")
    return name


def _activation(shell: str, path: Path) -> str:
    where = printable(str(path))
    if shell == "zsh":
        folder = printable(str(path.parent))
        return f"In ~/.zshrc, once:\n  fpath=('{folder}' $fpath)\n  autoload -Uz compinit && compinit"
    return f"With Debian's package bash-completion new shells use it by themselves; without, add to ~/.bashrc:\n  source '{where}'"
