"""From phd.toml to `Config`, or to one error that lists every problem with file, line, key and what to write instead."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# We use no plugins of pydantic; to look for some it reads the metadata of every installed package, 6 ms at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from phd_daemon.config.model import DEFAULT_PATH, Config, ConfigFile, SubmitterLimits, TargetTable, from_file
from phd_daemon.config.toml_text import KeyPath, NotToml, did_you_mean, key_lines, line_of, parse_toml
from restore_core.errors import ConfigurationError
from restore_core.naming import printable

MAX_BYTES = 1 << 20
_REMEDY = "Mend the file; every key is explained in the sample phd.toml."
_NAMED_TABLES: Mapping[str, type[BaseModel]] = {"targets": TargetTable, "submitters": SubmitterLimits}
_PLAIN = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be a text in quotes",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "missing": "is missing",
    "too_short": "must not be empty",
}


def load_config(path: Path | None) -> Config:
    """The settings of `path`, else of $PHD_CONFIG, else of /etc/phd/phd.toml, else the built-in defaults.

    Raises `ConfigurationError` with all problems at once, also for a named file that cannot be read.
    """
    named = path or (Path(os.environ["PHD_CONFIG"]) if os.environ.get("PHD_CONFIG") else None)
    source = named or DEFAULT_PATH
    try:
        data = read_settings(source)
    except FileNotFoundError:
        if named is None:
            return from_file(ConfigFile(), None)
        raise _unreadable(source, "there is no such file") from None
    except OSError as error:
        raise _unreadable(source, error.strerror or str(error)) from error
    if len(data) > MAX_BYTES:
        raise _unreadable(source, f"larger than {MAX_BYTES} bytes; that is not a configuration")
    return parse_config(data, source.absolute())


def read_settings(path: Path) -> bytes:
    """The bytes of a file, one more than `MAX_BYTES` at most. Raises `OSError`, also for a FIFO and the like, which could hang."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        return file.read(MAX_BYTES + 1)


def parse_config(data: bytes, source: Path) -> Config:
    """The settings in the bytes of a phd.toml; `source` stands in the messages."""
    name = printable(str(source))
    try:
        tables, text = parse_toml(data)
    except NotToml as error:
        raise ConfigurationError(f"{name}:{error.line}: {error.message}", remedy=_REMEDY) from error
    try:
        return from_file(ConfigFile.model_validate(tables), source)
    except ValidationError as error:
        # `from None`: pydantic's own text shows the values, and a value may be a password in the wrong place.
        raise ConfigurationError(_list_problems(name, error.errors(include_url=False), key_lines(text)), remedy=_REMEDY) from None


def what_is_wrong(tables: Mapping[str, Any]) -> str:
    """What is wrong with these tables, as one line without a place; empty if nothing is. For values that stand in no file yet."""
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
        case kind:
            return _PLAIN.get(kind, error["msg"])


def _keys_at(table: tuple[Any, ...]) -> Iterable[str]:
    """The keys that may stand in a table of the file."""
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
