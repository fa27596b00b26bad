"""The kinds of values in phd.toml: durations, rates, paths, modes, names. Each is checked here and becomes a plain type.

A check raises `ValueError` with a text that ends the sentence "KEY: ...". No text holds a URL that could carry a password.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field

from restore_core.naming import printable
from restore_core.targets.kinds import check_url

_DURATION = re.compile(r"(\d{1,9})([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_RATE = re.compile(r"(\d{1,9})(?:(k|M|G)(i)?B/s)?\Z")
_POWERS = {None: 0, "k": 1, "M": 2, "G": 3}
_MODE = re.compile(r"0?[0-7]{3}\Z")
_SUBMITTER = re.compile(r"@?[A-Za-z_][A-Za-z0-9_.-]*\$?\Z")
_LONGEST_PATH = 4095
_LONGEST_NAME = 255
_TARGET = re.compile(r"[a-z][a-z0-9_-]*\Z")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text in quotes")  # noqa: TRY004  pydantic turns only ValueError into a finding
    return value


def duration(value: object) -> int:
    """`"90s"`, `"15m"`, `"1h"`, `"30d"`, `"2w"` -> seconds."""
    match = _DURATION.match(_text(value))
    if match is None or int(match[1]) == 0:
        raise ValueError('must be a number and one of s, m, h, d, w, like "30d", and more than 0')
    return int(match[1]) * _SECONDS[match[2]]


def rate(value: object) -> int:
    """`"40MB/s"`, `"512KiB/s"` -> bytes a second; `"0"` is no limit. kB is 1000 bytes, KiB 1024."""
    text = _text(value).replace("K", "k")
    match = _RATE.match(text)
    if match is None or (match[2] is None and text != "0"):
        raise ValueError('must be "0", or a number and kB/s, MB/s or GB/s, like "40MB/s"')
    return int(match[1]) * int((1024 if match[3] else 1000) ** _POWERS[match[2]])


def mode(value: object) -> int:
    """`"0600"` -> 0o600."""
    text = _text(value)
    if not _MODE.match(text) or int(text, 8) & 0o600 != 0o600:
        raise ValueError('must be an octal mode with read and write for the owner, like "0600"')
    return int(text, 8)


def absolute_path(value: object) -> Path:
    """An absolute path without `..`."""
    path = value if isinstance(value, Path) else Path(_text(value))
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("must be a path that starts with / and holds no '..'")
    if len(os.fsencode(path)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise ValueError(
            f"is too long: no system takes a path of more than {_LONGEST_PATH} bytes, or a name of more than {_LONGEST_NAME}"
        )
    return path


def root(value: object) -> Path:
    """A folder whose direct children are datastores."""
    path = absolute_path(value)
    if path == Path("/"):
        raise ValueError("must not be /: every folder of the machine would be a datastore")
    return path


def _list(value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list, like ["a", "b"]')  # noqa: TRY004  see _text
    return tuple(value)


def submitter(value: object) -> str:
    """A user's name, or `@group`."""
    text = _text(value)
    if not _SUBMITTER.match(text):
        raise ValueError(f"{printable(text)!r} is neither a user's name nor @group")
    return text


def target_name(value: object) -> str:
    """The NAME of `[targets.NAME]`."""
    text = _text(value)
    if not _TARGET.match(text):
        raise ValueError("a target's name is made of a-z, 0-9, - and _, and starts with a letter")
    return text


def target_url(value: object) -> str:
    """The URL of a target of a known kind, never one with a password inside."""
    text = _text(value)
    check_url(text)
    return text


def tls_version(value: object) -> str:
    """The one limit that is of use: some servers fail with TLS 1.3 where they demand that sessions are reused."""
    if value != "1.2":
        raise ValueError('must be "1.2", or left out')
    return "1.2"


def timezone(value: object) -> str:
    """A zone of the machine's database, like `Europe/Vienna`."""
    text = _text(value)
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{printable(text)!r} is not a time zone, like UTC or Europe/Vienna") from error
    return text


Seconds = Annotated[int, BeforeValidator(duration)]
BytesPerSecond = Annotated[int, BeforeValidator(rate)]
Mode = Annotated[int, BeforeValidator(mode)]
AbsolutePath = Annotated[Path, BeforeValidator(absolute_path)]
PathList = Annotated[tuple[AbsolutePath, ...], BeforeValidator(_list)]
Root = Annotated[Path, BeforeValidator(root)]
RootList = Annotated[tuple[Root, ...], BeforeValidator(_list), Field(min_length=1)]
Submitter = Annotated[str, BeforeValidator(submitter)]
SubmitterList = Annotated[tuple[Submitter, ...], BeforeValidator(_list)]
TargetName = Annotated[str, BeforeValidator(target_name)]
TargetUrl = Annotated[str, BeforeValidator(target_url)]
TlsVersion = Annotated[str, BeforeValidator(tls_version)]
Timezone = Annotated[str, BeforeValidator(timezone)]
