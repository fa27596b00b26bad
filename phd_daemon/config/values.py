"""The types of values in phd.toml: durations, rates, paths, modes, names. pydantic calls these checks for each value.

A check returns a plain type, or raises `ValueError` with a text that follows "KEY: ". No text shows a URL: it may hold a password.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from restore_core.naming import printable
from restore_core.targets.kinds import check_url

_DURATION = re.compile(r"(\d{1,9})([smhdw])\Z")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_RATE = re.compile(r"(\d{1,9})(?:(k|M|G)(i)?B/s)?\Z")
_POWERS = {None: 0, "k": 1, "M": 2, "G": 3}
_MODE = re.compile(r"0?[0-7]{3}\Z")
_SUBMITTER = re.compile(r"@?[A-Za-z_][A-Za-z0-9_.-]*\$?\Z")
_LONGEST_PATH = 4095
_LONGEST_NAME = 255
_TARGET = re.compile(r"[a-z][a-z0-9_-]*\Z")


def _text(value: object, like: str = "") -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text in quotes{like and f', like {like}'}")  # noqa: TRY004  pydantic turns only ValueError into a finding
    return value


def duration(value: object) -> int:
    """Returns seconds: `"90s"`, `"15m"`, `"1h"`, `"30d"`, `"2w"`."""
    match = _DURATION.match(_text(value, '"30d"'))
    if match is None or int(match[1]) == 0:
        raise ValueError('must be a number and one of s, m, h, d, w, like "30d", and more than 0')
    return int(match[1]) * SECONDS[match[2]]


def rate(value: object) -> int:
    """Returns bytes a second: `"40MB/s"`, `"512KiB/s"`; `"0"` is no limit. kB is 1000 bytes, KiB 1024."""
    text = _text(value, '"40MB/s"').replace("K", "k")
    match = _RATE.match(text)
    if match is None or (match[2] is None and text != "0"):
        raise ValueError('must be "0", or a number and kB/s, MB/s or GB/s, like "40MB/s"')
    return int(match[1]) * int((1024 if match[3] else 1000) ** _POWERS[match[2]])


def mode(value: object) -> int:
    """Returns 0o600 for `"0600"`."""
    text = _text(value, '"0600"')
    if not _MODE.match(text) or int(text, 8) & 0o600 != 0o600:
        raise ValueError('must be an octal mode with read and write for the owner, like "0600"')
    return int(text, 8)


def absolute_path(value: object) -> Path:
    """Returns an absolute path without `..`."""
    path = value if isinstance(value, Path) else Path(_text(value))
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("must be a path that starts with / and holds no '..'")
    if len(os.fsencode(path)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise ValueError(f"is too long: a path has at most {_LONGEST_PATH} bytes, and a name in it at most {_LONGEST_NAME}")
    return path


def root(path: Path) -> Path:
    """Returns a folder whose direct children are datastores."""
    if path == Path("/"):
        raise ValueError("must not be /: every folder of the machine would be a datastore")
    return path


def submitter(text: str) -> str:
    """Returns a user's name, or `@group`."""
    if not _SUBMITTER.match(text):
        raise ValueError(f"{printable(text)!r} is not a user's name or @group")
    return text


def target_name(text: str) -> str:
    """Returns the NAME of `[targets.NAME]`."""
    if not _TARGET.match(text):
        raise ValueError("a target's name is made of a-z, 0-9, - and _, and starts with a letter")
    return text


def target_url(text: str) -> str:
    """Returns the URL of a target of a known kind; one with a password inside is refused."""
    check_url(text)
    return text


def timezone(text: str) -> str:
    """Returns a time zone that this machine knows, like `Europe/Vienna`."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{printable(text)!r} is not a time zone, like UTC or Europe/Vienna") from error
    return text


Seconds = Annotated[int, BeforeValidator(duration)]
BytesPerSecond = Annotated[int, BeforeValidator(rate)]
Mode = Annotated[int, BeforeValidator(mode)]
AbsolutePath = Annotated[Path, BeforeValidator(absolute_path)]
PathList = Annotated[tuple[AbsolutePath, ...], Field(strict=False)]  # TOML has lists, and a strict tuple is no list
Root = Annotated[AbsolutePath, AfterValidator(root)]
RootList = Annotated[tuple[Root, ...], Field(strict=False, min_length=1)]
Submitter = Annotated[str, AfterValidator(submitter)]
SubmitterList = Annotated[tuple[Submitter, ...], Field(strict=False)]
TargetName = Annotated[str, AfterValidator(target_name)]
TargetUrl = Annotated[str, AfterValidator(target_url)]
Timezone = Annotated[str, AfterValidator(timezone)]
