"""Reads phd.toml into a `Config`, or raises one error that lists all problems: file, line, key and what to write instead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# We use no plugins of pydantic. To look for them it reads the metadata of all installed packages: 6 ms at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from phd_daemon.config.model import DEFAULT_PATH, Config, ConfigFile, SubmitterLimits, TargetTable, from_file
from phd_daemon.config.toml_text import KeyPath, NotToml, did_you_mean, key_lines, line_of, parse_toml
from restore_core.durable import read_plain
from restore_core.errors import ConfigurationError
from restore_core.naming import printable

MAX_BYTES = 1 << 20
_MOST_MISTAKES = 50
_REMEDY = "Correct the file; the sample phd.toml explains each key."
_NAMED_TABLES: Mapping[str, type[BaseModel]] = {"targets": TargetTable, "submitters": SubmitterLimits}
_PLAIN = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be a text in quotes",
    "tuple_type": 'must be a list, like ["a", "b"]',
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "missing": "is missing",
    "too_short": "must not be empty",
}


def load_config(path: Path | None) -> Config:
    """Returns the settings of `path`, else of $PHD_CONFIG, else of /etc/phd/phd.toml, else the defaults.

    Raises `ConfigurationError` with all problems, also for a named file that cannot be read.
    """
    named = path or (Path(os.environ["PHD_CONFIG"]) if os.environ.get("PHD_CONFIG") else None)
    source = named or DEFAULT_PATH
    try:
        data = read_settings(source)
    except ConfigurationError as error:
        if named is None and isinstance(error.__cause__, FileNotFoundError):
            return from_file(ConfigFile(), None)
        raise
    return parse_config(data, source.absolute())


def load_what_is_right(path: Path | None) -> tuple[Config, str]:
    """Returns the settings without the lines that are wrong, and what is wrong (empty if nothing is): for `phd status`.

    Raises `ConfigurationError` if the file cannot be read, or if nothing of it can be used.
    """
    try:
        return load_config(path), ""
    except ConfigurationError as error:
        named = path or (Path(os.environ["PHD_CONFIG"]) if os.environ.get("PHD_CONFIG") else None)
        source = (named or DEFAULT_PATH).absolute()
        return _without_mistakes(read_settings(source), source, error), str(error)


def _without_mistakes(data: bytes, source: Path, first: ConfigurationError) -> Config:
    for _ in range(_MOST_MISTAKES):
        try:
            tables, _text = parse_toml(data)
        except NotToml as error:
            lines = data.split(b"\n")
            if not 0 < error.line <= len(lines) or not lines[error.line - 1].strip():
                break
            lines[error.line - 1] = b""
            data = b"\n".join(lines)
            continue
        for _ in range(_MOST_MISTAKES):
            try:
                return from_file(ConfigFile.model_validate(tables), source)
            except ValidationError as error:
                for table, key in [_wrong_key(tables, one["loc"]) for one in error.errors(include_url=False)]:
                    table.pop(key, None)
        break
    raise first


def _wrong_key(tables: dict[str, Any], location: tuple[str | int, ...]) -> tuple[dict[str, Any], str]:
    """Returns the key at this location and its table; where it is missing, or part of a list, the innermost one that is there."""
    table: Any = tables
    found = tables, ""
    for part in (one for one in location if one != "[key]"):
        if not isinstance(table, dict) or part not in table:
            break
        found = table, str(part)
        table = table[part]
    return found


def read_settings(path: Path) -> bytes:
    """Returns the bytes of a phd.toml. Raises `ConfigurationError` if it is missing, too large, or cannot be read."""
    try:
        data = read_plain(path, MAX_BYTES + 1)
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise _unreadable(path, why) from error
    if len(data) > MAX_BYTES:
        raise _unreadable(path, f"larger than {MAX_BYTES} bytes: that is not a configuration")
    return data


def parse_config(data: bytes, source: Path) -> Config:
    """Returns the settings in the bytes of a phd.toml; messages name `source` as its path. Raises `ConfigurationError`."""
    name = printable(str(source))
    try:
        tables, text = parse_toml(data)
    except NotToml as error:
        where = f"{name}:{error.line}" if error.line else name
        raise ConfigurationError(f"{where}: {error.message}", remedy=f"{error.advice} {_REMEDY}".strip()) from error
    try:
        return from_file(ConfigFile.model_validate(tables), source)
    except ValidationError as error:
        # `from None`: pydantic's own text shows the values, and one may be a password in the wrong place.
        raise ConfigurationError(_list_problems(name, error.errors(include_url=False), key_lines(text)), remedy=_REMEDY) from None


def what_is_wrong(tables: Mapping[str, Any]) -> str:
    """Returns what is wrong with these tables, in one line that names no file; empty if nothing is."""
    try:
        ConfigFile.model_validate(tables)
    except ValidationError as error:
        return "; ".join(line.partition(": ")[2] for line in _list_problems("", error.errors(include_url=False), {}).split("\n"))
    return ""


def _list_problems(name: str, errors: Iterable[ErrorDetails], lines: Mapping[KeyPath, int]) -> str:
    found = []
    for error in errors:
        location = tuple(part for part in error["loc"] if part != "[key]")
        key = ".".join(printable(str(part)) for part in location)
        found.append((line_of(location, lines), f"{key}: {_sentence(error, location)}"))
    return "\n".join(f"{name}:{line}: {what}" for line, what in sorted(found))


def _sentence(error: ErrorDetails, location: tuple[str | int, ...]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "extra_forbidden":
            return f"there is no such key{did_you_mean(str(location[-1]), _keys_at(location[:-1]))}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "literal_error":
            return f"must be {context['expected']}, or left out".replace("'", '"')
        case kind:
            return _PLAIN.get(kind, error["msg"])


def _keys_at(table: tuple[Any, ...]) -> Iterable[str]:
    """Returns the keys that a table of the file may have."""
    if not table:
        return ConfigFile.model_fields
    named = _NAMED_TABLES.get(str(table[0]))
    if named is not None:
        return named.model_fields
    annotation = ConfigFile.model_fields[str(table[0])].annotation
    return annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else ()


def _unreadable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{printable(str(path))}: {why}", remedy="Name the file with --config or $PHD_CONFIG, or copy the sample phd.toml there."
    )
