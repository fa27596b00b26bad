"""Single settings written back into phd.toml: for `phd options` and the console, whose person did not open the file.

read the file > change one value in its text, comments and all > check the whole as the daemon will > write it at once, durably

The change is refused, and the file untouched, where the new text would not be read as a good configuration that differs in this
one value alone, and where the file is no longer as it was read. Owner and mode stay. A link is followed, not replaced.
"""

from __future__ import annotations

import enum
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phd_daemon.config.load import MAX_BYTES, parse_config, read_settings, what_is_wrong
from phd_daemon.config.model import Config
from phd_daemon.config.toml_text import NotToml, did_you_mean, parse_toml
from restore_core import durable
from restore_core.errors import ConfigurationError, TryAgainLater, UsageError
from restore_core.naming import printable

MANY_WORKERS = (
    "Running 2 in a normal console is OK. Do not run more than 2 at once unless the host's console has more CPU: "
    "increase its MHz first, or it bogs down."
)
_MOST_DIGITS = 18
_UNITS = ((7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "m"))


class ValueKind(enum.Enum):
    """How a person writes the value."""

    SWITCH = "on or off"
    NUMBER = "a whole number"
    DURATION = "a number and s, m, h, d or w: 90m, 1h, 30d"
    FOLDER = "a path that starts with /"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting that may be changed from outside of an editor; `name` is `table.key` of phd.toml."""

    name: str
    kind: ValueKind
    meaning: str

    @property
    def keys(self) -> tuple[str, str]:
        """Table and key."""
        table, _, key = self.name.partition(".")
        return table, key


OPTIONS: tuple[Option, ...] = (
    Option(name="queue.enabled", kind=ValueKind.SWITCH, meaning="run the restore queue"),
    Option(name="queue.workers", kind=ValueKind.NUMBER, meaning="restores at once, 1 to 4"),
    Option(name="queue.purge_after", kind=ValueKind.DURATION, meaning="finished jobs and logs go after"),
    Option(name="queue.hung_after", kind=ValueKind.DURATION, meaning="a silent worker is stopped after"),
    Option(name="replication.enabled", kind=ValueKind.SWITCH, meaning="restore by rule, by the clock"),
    Option(name="replication.every", kind=ValueKind.DURATION, meaning="time from pass to pass"),
    Option(name="replication.default_datastore", kind=ValueKind.FOLDER, meaning="where preloaded rules restore to"),
    Option(name="replication.storm_limit", kind=ValueKind.NUMBER, meaning="more jobs a pass arrive held"),
    Option(name="replication.fall_back_to_older", kind=ValueKind.SWITCH, meaning="older backup if the newest fails"),
    Option(name="index.max_age", kind=ValueKind.DURATION, meaning="look at targets again after"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An option with its value as a person writes it; `in_file` is False for a default that phd.toml does not name."""

    option: Option
    value: str
    in_file: bool


def find(name: str) -> Option:
    """The option of this name. Raises `UsageError`."""
    found = next((option for option in OPTIONS if option.name == name), None)
    if found is None:
        near = did_you_mean(name, [option.name for option in OPTIONS])
        raise UsageError(
            f"there is no option '{printable(name)}'{near}", remedy="'phd options' lists them; all other keys: edit phd.toml."
        )
    return found


class SettingsFile:
    """phd.toml as it was when it was read. Every change starts from that, and is refused if the file is another by then."""

    def __init__(self, config: Config) -> None:
        """Read the file of these settings. Raises `ConfigurationError` where there is none, or it is no good any more."""
        if config.source is None:
            raise ConfigurationError(
                "there is no phd.toml, so there is nothing to change: the built-in defaults hold",
                remedy="Copy the sample phd.toml to /etc/phd/phd.toml, or name your file with --config or $PHD_CONFIG.",
            )
        self.path = config.source
        self._data = _read(Path(os.path.realpath(self.path)))
        self.config = parse_config(self._data, self.path)

    def settings(self) -> tuple[Setting, ...]:
        """All options with their values, in the order of `OPTIONS`."""
        tables, _ = parse_toml(self._data)
        return tuple(_setting(option, self.config, tables) for option in OPTIONS)

    def setting(self, option: Option) -> Setting:
        """One of them."""
        return next(one for one in self.settings() if one.option is option)

    def refusal(self, option: Option, text: str) -> str | None:
        """Why this cannot be the value; None if it can."""
        table, key = option.keys
        try:
            return what_is_wrong({table: {key: _value(option, text)}}) or None
        except ValueError as error:
            return f"{option.name}: {error}"

    def change(self, option: Option, text: str) -> tuple[str, ...]:
        """Set one value; what a person should think about. Nothing is written where it has that value.

        Raises `UsageError` for a value that cannot be, `ConfigurationError` for a file that this cannot change,
        `TryAgainLater` if the file has changed since it was read, `OSError`.
        """
        table, key = option.keys
        problem = self.refusal(option, text)
        if problem is not None:
            raise UsageError(problem, remedy=f"Give {option.kind.value}.")
        value = _value(option, text)
        new = _changed(self._data, table, key, value)
        config = parse_config(new, self.path)
        if new != self._data:
            self._write(new)
            self._data = new
        self.config = config
        return _warnings(option, config)

    def _write(self, new: bytes) -> None:
        real = os.path.realpath(self.path)
        with open(real, "rb") as file:
            # Two of us at once: the second finds the lock taken, or another file under the name.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _changed_meanwhile(self.path) from None
            seen = os.fstat(file.fileno())
            if file.read(MAX_BYTES + 1) != self._data or os.stat(real).st_ino != seen.st_ino:
                raise _changed_meanwhile(self.path)
            durable.write_whole(real, new, like=seen)


def _read(path: Path) -> bytes:
    try:
        return read_settings(path)
    except OSError as error:
        raise ConfigurationError(f"{printable(str(path))}: {error.strerror or error}") from error


def _changed(data: bytes, table: str, key: str, value: object) -> bytes:
    """The text with one value set. tomlkit keeps comments, order and spaces; what it made is read again with the real reader."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    tables, text = parse_toml(data)
    try:
        document = tomlkit.parse(text)
        if table not in document:
            document[table] = tomlkit.table()
        document[table][key] = value
        new = tomlkit.dumps(document).encode()
        wanted = {**tables, table: {**tables.get(table, {}), key: value}}
        if parse_toml(new)[0] != wanted:
            raise NotToml("the change would touch other values", 0)
    except (TOMLKitError, NotToml) as error:
        raise ConfigurationError(
            f"phd.toml is written in a way in which {table}.{key} cannot be changed from here: {error}",
            remedy="Change it with an editor.",
        ) from error
    return new


def _value(option: Option, text: str) -> object:
    """As TOML has it. Raises `ValueError`."""
    text = text.strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"'{printable(text)}' holds bytes that are no text (UTF-8), which phd.toml must be") from None
    match option.kind:
        case ValueKind.SWITCH:
            words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
            if text.lower() not in words:
                raise ValueError(f"'{printable(text)}' is neither on nor off")
            return words[text.lower()]
        case ValueKind.NUMBER:
            if not text.isdecimal() or len(text) > _MOST_DIGITS:
                raise ValueError(f"'{printable(text[:40])}' is not a whole number of at most {_MOST_DIGITS} digits")
            return int(text)
        case ValueKind.DURATION | ValueKind.FOLDER:
            return text


def _setting(option: Option, config: Config, tables: Mapping[str, Any]) -> Setting:
    table, key = option.keys
    value = getattr(getattr(config, table), key)
    text = printable(str(value))
    if option.kind is ValueKind.SWITCH:
        text = "on" if value else "off"
    elif option.kind is ValueKind.DURATION:
        text = next((f"{value // unit}{letter}" for unit, letter in _UNITS if value % unit == 0), f"{value}s")
    return Setting(option=option, value=text, in_file=key in tables.get(table, {}))


def _warnings(option: Option, config: Config) -> tuple[str, ...]:
    if option.name == "queue.workers" and config.queue.workers > 2:
        return (MANY_WORKERS,)
    folder = config.replication.default_datastore
    if option.name == "replication.default_datastore":
        if folder.parent not in config.datastores.roots:
            roots = ", ".join(printable(str(root)) for root in config.datastores.roots)
            return (f"{printable(str(folder))} is no datastore: jobs go to a direct child of {roots} only",)
        if not folder.is_dir():
            return (f"{printable(str(folder))} is not there now",)
    return ()


def _changed_meanwhile(path: Path) -> TryAgainLater:
    return TryAgainLater(
        f"{printable(str(path))} has changed since it was read: nothing was written", remedy="Look at it, and set the value again."
    )
