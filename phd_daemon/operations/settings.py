"""The options of queue and replication: what phd.toml says of each, and one of them set to another value.

A change is made to the file as it was read: a change that somebody else made since then is found, and not written over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config.edit import Option, SettingsFile
from phd_daemon.config.model import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change did. Values are as a person writes them; both are the same where nothing was written."""

    option: Option
    before: str
    now: str
    file: Path
    warnings: tuple[str, ...]


def options_file(settings: Config) -> SettingsFile:
    """Returns the file of these settings as it is now, with all options. Raises `ConfigurationError` if there is none."""
    return SettingsFile(settings)


def set_option(file: SettingsFile, option: Option, text: str) -> Changed:
    """Sets one option in `file`, which then has the new value.

    Raises `UsageError` for a value that is not allowed, `ConfigurationError` for a file that cannot be changed here,
    `TryAgainLater` if the file has changed since it was read, `OSError`.
    """
    before = file.setting(option).value
    warnings = file.change(option, text)
    return Changed(option=option, before=before, now=file.setting(option).value, file=file.path, warnings=warnings)
