"""Parses TOML files, and helps with messages about them: the line of each key, and the key that a person may have meant.

`tomllib` gives a line only for a syntax error, and none for a key that is not known. `key_lines` finds the lines of keys in a
text that `tomllib` has parsed; only messages use them.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from restore_core.naming import printable, searchable

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*(?P<key>{_DOTTED})\s*\]\]?")
_KEY = re.compile(rf"\s*(?P<key>{_DOTTED})\s*=")
_AT_LINE = re.compile(r"\s*\(at line (?P<line>\d+), column (?P<column>\d+)\)")

_ADVICE = {
    "Invalid value": 'A text is written in quotes, a path too: key = "/some/where".',
    "Expected '=' after a key": 'A line is a key, =, and its value: key = "value".',
    "Cannot overwrite a value": "This key is set twice: leave one of them out.",
    "Cannot declare": "This table is there twice: put its keys below one.",
    "Unterminated string": "A text ends with the quote that it begins with, on the same line.",
    "Illegal character": "A text ends with the quote that it begins with, on the same line.",
    "Unescaped": "A backslash in quotes is written twice; or the text stands between single quotes.",
    "Expected ']'": "A table is a line of the form [NAME].",
    "Invalid initial character": "A key is made of letters, digits, - and _.",
    "Invalid statement": "A line is KEY = VALUE, [TABLE], or begins with #.",
    "Expected newline": "One key and its value on a line; what follows # is a comment.",
}
"""What to write instead, by how the parser's message begins."""

KeyPath = tuple[str, ...]


class NotToml(ValueError):
    """The text is not TOML; `line` counts from 1, and is 0 where the parser does not say it. `advice` is what to write instead."""

    def __init__(self, message: str, line: int, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.advice = advice


def parse_toml(data: bytes) -> tuple[dict[str, Any], str]:
    """Returns the tables of a TOML file, and its text. A byte order mark at the start is allowed. Raises `NotToml`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotToml(f"not UTF-8: byte 0x{data[error.start]:02x}", line) from error
    try:
        return tomllib.loads(text), text
    except RecursionError as error:
        raise NotToml("nested too deeply", 0) from error
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        match = _AT_LINE.search(str(error))
        what = printable(_AT_LINE.sub("", str(error)))
        where = f" at column {match['column']}" if match else ""
        advice = next((text for begin, text in _ADVICE.items() if what.startswith(begin)), "")
        raise NotToml(f"not TOML: {what}{where}", int(match["line"]) if match else 0, advice) from error


def key_lines(text: str) -> dict[KeyPath, int]:
    """Returns the line of each table and key of a text that is valid TOML; lines count from 1."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    quote = ""  # the delimiter of the multi-line string that this line is in
    for number, line in enumerate(text.splitlines(), start=1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := _HEADER.match(line):
            table = _parts(header["key"])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_parts(key["key"]))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], number)
            quote = next((mark for mark in ('"""', "'''") if line.count(mark) == 1), "")
    return lines


def line_of(path: Iterable[str | int], lines: Mapping[KeyPath, int]) -> int:
    """Returns the line of a key, else of the innermost table around it that is in the file, else 0."""
    keys = tuple(part for part in path if isinstance(part, str))
    return next((lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in lines), 0)


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the most similar known word, whatever its case; empty if none is similar."""
    words = {searchable(word): word for word in known}
    near = difflib.get_close_matches(searchable(key), words, n=1)
    return f" (did you mean '{printable(words[near[0]])}'?)" if near else ""


def _parts(key: str) -> KeyPath:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in re.findall(_PART, key))
