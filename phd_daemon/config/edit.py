"""Changes single settings in phd.toml, for `phd options` and the console.

The file is read, one value is changed in its text, the new text is checked as the daemon checks it, and is written at once and
durably. Comments, owner and mode stay; a link is followed. Nothing is written if the new text is not a valid configuration, if
it differs in more than this value, or if the file has changed since it was read.
"""

from __future__ import annotations

import contextlib
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
from phd_daemon.config.values import SECONDS
from restore_core import durable
from restore_core.errors import ConfigurationError, TryAgainLater, UsageError
from restore_core.naming import printable

MANY_WORKERS = (
    "Running 2 in a normal console is OK. Do not run more than 2 at once unless the host's console has more CPU: "
    "increase its MHz first, or it bogs down."
)
_MOST_DIGITS = 18
_STORES_SHOWN = 5


class ValueKind(enum.Enum):
    """The kinds of values, each with the way a person writes it."""

    SWITCH = "on or off"
    NUMBER = "a whole number"
    DURATION = "a number and s, m, h, d or w: 90m, 1h, 30d"
    FOLDER = "a path that starts with /"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting that can be changed without an editor; `name` is `table.key` of phd.toml."""

    name: str
    kind: ValueKind
    meaning: str

    @property
    def keys(self) -> tuple[str, str]:
        """The table and the key in it."""
        table, _, key = self.name.partition(".")
        return table, key


OPTIONS: tuple[Option, ...] = (
    Option(name="queue.enabled", kind=ValueKind.SWITCH, meaning="run the restore queue"),
    Option(name="queue.workers", kind=ValueKind.NUMBER, meaning="restores at once, 1 to 4"),
    Option(name="queue.purge_after", kind=ValueKind.DURATION, meaning="finished jobs and logs go after"),
    Option(name="queue.hung_after", kind=ValueKind.DURATION, meaning="a silent worker is stopped after"),
    Option(name="replication.enabled", kind=ValueKind.SWITCH, meaning="restore by rule, at fixed times"),
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
    """Returns the option of this name. Raises `UsageError` if there is none."""
    found = next((option for option in OPTIONS if option.name == name), None)
    if found is None:
        near = did_you_mean(name, [option.name for option in OPTIONS])
        raise UsageError(
            f"there is no option '{printable(name)}'{near}",
            remedy="'phd options' lists them; change other keys in phd.toml.",
        )
    return found


class SettingsFile:
    """phd.toml as it was read. A change is refused if the file is not the same any more."""

    def __init__(self, config: Config) -> None:
        """Reads the file of these settings. Raises `ConfigurationError` if there is none, or it is not valid any more."""
        if config.source is None:
            raise ConfigurationError(
                "there is no phd.toml to change: the defaults are used",
                remedy="Copy the sample phd.toml to /etc/phd/phd.toml, or name your file with --config or $PHD_CONFIG.",
            )
        self.path = config.source
        self._data = read_settings(Path(os.path.realpath(self.path)))
        self.config = parse_config(self._data, self.path)

    def settings(self) -> tuple[Setting, ...]:
        """Returns all options with their values, in the order of `OPTIONS`."""
        tables, _ = parse_toml(self._data)
        return tuple(_setting(option, self.config, tables) for option in OPTIONS)

    def setting(self, option: Option) -> Setting:
        """Returns one option with its value."""
        return next(one for one in self.settings() if one.option is option)

    def refusal(self, option: Option, text: str) -> str | None:
        """Returns why an option cannot have this value; None if it can."""
        table, key = option.keys
        try:
            return what_is_wrong({table: {key: _value(option, text)}}) or None
        except ValueError as error:
            return f"{option.name}: {error}"

    def change(self, option: Option, text: str) -> tuple[str, ...]:
        """Sets one value and returns warnings about it. Nothing is written if the option has that value already.

        Raises `UsageError` for a value that is not allowed, `ConfigurationError` for a file that cannot be changed here,
        `TryAgainLater` if the file has changed since it was read, `OSError`.
        """
        table, key = option.keys
        problem = self.refusal(option, text)
        if problem is not None:
            raise UsageError(problem, remedy=f"Give {option.kind.value} ({option.meaning}): phd options {option.name} VALUE")
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
            # Of two changes at once, the second finds the lock taken, or another file under the name.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _changed_meanwhile(self.path) from None
            seen = os.fstat(file.fileno())
            if file.read(MAX_BYTES + 1) != self._data or os.stat(real).st_ino != seen.st_ino:
                raise _changed_meanwhile(self.path)
            durable.write_whole(real, new, like=seen)


def _changed(data: bytes, table: str, key: str, value: object) -> bytes:
    """Returns the text with one value set. tomlkit keeps comments, order and spaces; `parse_toml` reads the result again."""
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
            f"{table}.{key} cannot be changed from here, because of the way phd.toml is written: {error}",
            remedy="Change it with an editor.",
        ) from error
    return new


def _value(option: Option, text: str) -> object:
    """Returns the value for TOML. Raises `ValueError` for text that is not of this kind."""
    text = text.strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"'{printable(text)}' holds bytes that are not UTF-8, which phd.toml cannot hold") from None
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
    elif option.kind is ValueKind.DURATION and isinstance(written := tables.get(table, {}).get(key), str):
        text = printable(written)  # in the unit it was set in
    elif option.kind is ValueKind.DURATION:
        text = next(f"{value // SECONDS[unit]}{unit}" for unit in "wdhms" if value % SECONDS[unit] == 0)
    return Setting(option=option, value=text, in_file=key in tables.get(table, {}))


def _warnings(option: Option, config: Config) -> tuple[str, ...]:
    if option.name == "queue.workers" and config.queue.workers > 2:
        return (MANY_WORKERS,)
    doubt = doubt_about_default_datastore(config) if option.name == "replication.default_datastore" else ""
    return (doubt,) if doubt else ()


def doubt_about_default_datastore(config: Config) -> str:
    """Returns why no rule can restore to `default_datastore` now, and what to type; empty if one can."""
    folder, roots = config.replication.default_datastore, config.datastores.roots
    if folder.parent in roots and folder.is_dir():
        return ""
    below = ", ".join(printable(str(root)) for root in roots)
    wrong = "does not exist now" if folder.parent in roots else f"is not a datastore: a datastore is a folder directly in {below}"
    stores: list[str] = []
    for root in roots:
        with contextlib.suppress(OSError):
            stores += sorted(printable(str(path)) for path in root.iterdir() if path.is_dir())
    there = f"; there are {', '.join(stores[:_STORES_SHOWN])}" if stores else ""
    do = f"phd options replication.default_datastore {stores[0] if stores else '/PATH'}"
    return f"replication.default_datastore: {printable(str(folder))} {wrong}{there}. Mount it, or name another: {do}"


def _changed_meanwhile(path: Path) -> TryAgainLater:
    return TryAgainLater(
        f"{printable(str(path))} has changed since it was read: nothing was written", remedy="Read it, and set the value again."
    )
