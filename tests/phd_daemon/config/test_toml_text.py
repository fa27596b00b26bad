"""The line of every key, and sentences for what is not TOML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phd_daemon.config.toml_text import NotToml, did_you_mean, key_lines, line_of, parse_toml

TEXT = '''a = 1
# b = 2
[one]
c = """
d = 3
"""
e = [
  "f = 4",
]
[one . "two.three"]
'g h'.i = 5
[[four]]
j = 6
[[four]]
j = 7
'''


def test_key_lines() -> None:
    assert key_lines(TEXT) == {
        ("a",): 1,
        ("one",): 3,
        ("one", "c"): 4,
        ("one", "e"): 7,
        ("one", "two.three"): 10,
        ("one", "two.three", "g h"): 11,
        ("one", "two.three", "g h", "i"): 11,
        ("four",): 12,
        ("four", "j"): 13,
    }


def test_the_line_of_what_stands_nearest() -> None:
    lines = key_lines(TEXT)
    assert line_of(("one", "c", 3, "x"), lines) == 4
    assert line_of(("one", "missing"), lines) == 3
    assert line_of(("nowhere",), lines) == 0


@given(st.dictionaries(st.text(st.characters(categories=("L", "N")), min_size=1), st.integers()))
def test_every_simple_key_has_its_line(table: dict[str, int]) -> None:
    text = "".join(f"'{key}' = {value}\n" for key, value in table.items())
    assert key_lines(text) == {(key,): number for number, key in enumerate(table, start=1)}


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"a = 1\nb =\n", 2, "not TOML: Invalid value at column 4"),
        (b"a = 1\n\xc3\x28", 2, "not UTF-8: byte 0xc3"),
        (b"a = " + b"[" * 9999, 0, "nested too deeply"),
        (b'a = "x', 0, "not TOML: Unterminated string (at end of document)"),
    ],
)
def test_not_toml(data: bytes, line: int, message: str) -> None:
    with pytest.raises(NotToml) as caught:
        parse_toml(data)
    assert (caught.value.line, caught.value.message) == (line, message)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"a = text\n", "quotes"),
        (b'a = "x', "quote that it begins with"),
        (b"a = [1,\n", "quotes"),
        (b"a\n", 'key = "value"'),
        (b"a = 1 b = 2\n", "value on a line"),
        (b"a = 1\na = 2\n", "twice"),
        (b"[a]\n[a]\n", "twice"),
        (b'a = "C:\\x"\n', "backslash"),
        (b"[a\n", "[NAME]"),
    ],
)
def test_what_is_not_toml_comes_with_what_to_write(data: bytes, hint: str) -> None:
    with pytest.raises(NotToml) as caught:
        parse_toml(data)
    assert hint in caught.value.advice, caught.value.message


def test_did_you_mean() -> None:
    assert did_you_mean("overwite", ["overwrite", "full"]) == " (did you mean 'overwrite'?)"
    assert did_you_mean("zzz", ["overwrite", "full"]) == ""
