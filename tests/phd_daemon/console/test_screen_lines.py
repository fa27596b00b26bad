"""Texts in cells: cut, folded and set under each other, also where a character takes two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.lines import clean_lines, ends, fit, flowing, fold, keys_line, narrower, one_line
from phd_daemon.console.screen.row_list import Table
from phd_daemon.show.table import width_of


@given(st.text(st.sampled_from("ab 漢字é%"), max_size=60), st.integers(2, 20))
def test_folded_pieces_fit_and_lose_nothing_but_spaces(text: str, width: int) -> None:
    pieces = fold(text, width)
    assert all(width_of(piece) <= width for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "width", "pieces"),
    [
        ("", 5, [""]),
        ("one two three", 8, ["one two", "three"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("漢字漢字", 4, ["漢字", "漢字"]),
        ("exactly8 and", 8, ["exactly8", "and"]),
    ],
)
def test_fold(text: str, width: int, pieces: list[str]) -> None:
    assert fold(text, width) == pieces


@given(st.text(max_size=30), st.integers(0, 40))
def test_a_line_takes_its_cells_exactly(text: str, width: int) -> None:
    assert width_of(fit(one_line(text), width)) == width


def test_no_control_character_is_left() -> None:
    assert one_line("a\x1b[2Jb\tc\x07") == "a%1B[2Jb  c%07"
    assert clean_lines(["one\ntwo", "\x9b31m"]) == ["one", "two", "%C2%9B31m"]


def test_rows_stand_in_columns_and_one_that_says_something_else_does_not_widen_them() -> None:
    rows = [Row(cells=("nas1", "漢字.vmdk", "1 MB"), value=1), Row(cells=("n", "b.vmdk", "20 MB"), value=2, refused="in use\x1b")]
    keyed = Row(cells=("Look at all of the backup targets again",), value=3, key="i")
    table = Table(Choice(title="", columns=("AT", "NAME", "SIZE"), rows=[*rows, keyed]))
    assert table.header == "    AT    NAME       SIZE"
    assert table.lines == [
        "    nas1  漢字.vmdk  1 MB",
        "    n     b.vmdk     20 MB  [cannot be chosen: in use%1B]",
        "(I) Look at all of the backup targets again",
    ]


@pytest.mark.parametrize(
    ("words", "shown"),
    [("", [0, 1, 2]), ("NAS1", [0, 2]), ("crm 2", [1, 2]), ("nothing", [2]), ("nas1 crm 1", [0, 2]), ("  ", [0, 1, 2])],
)
def test_a_filter_asks_for_every_word_in_any_column_and_keyed_rows_stay(words: str, shown: list[int]) -> None:
    rows = [
        Row(cells=("nas1", "CRM 1"), value=1),
        Row(cells=("nas9", "CRM 2"), value=2),
        Row(cells=("Again",), value=3, key="i"),
    ]
    table = Table(Choice(title="", rows=rows))
    table.narrow(words)
    assert list(table.shown) == shown
    assert table.with_key("I") == len(shown) - 1


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("/vmfs/volumes/ISCSI02/CRM/CRM.vmdk", 20, ".../CRM/CRM.vmdk"),
        ("a long name of a machine", 12, "a long na..."),
        ("short", 12, "short"),
    ],
)
def test_a_cell_is_shortened_where_it_tells_least(text: str, room: int, shown: str) -> None:
    assert shown.lstrip(".") in ends(text, room)
    assert width_of(ends(text, room)) <= room


def test_the_widest_columns_give_way() -> None:
    assert narrower([[40], [5], [20]], 59) == [30, 5, 20]
    assert narrower([[40], [5], [20]], 69) == [40, 5, 20]


def test_where_narrow_columns_are_not_enough_the_one_with_the_most_text_is_left_out() -> None:
    assert narrower([[13], [12]], 10) == [10, 0]
    assert narrower([[29, 25], [82, 60], [90, 1]], 33) == [15, 0, 16]
    assert narrower([[40], [7], [5], [6], [99]], 24) == [15, 7, 0, 0, 0]


def test_of_the_keys_the_last_but_one_is_left_out_until_they_fit() -> None:
    keys = "Enter choose  Esc back  Tab more  / filter  1 top  b bottom  ? help"
    assert keys_line(keys, 79) == keys
    assert keys_line(keys, 40) == "Enter choose  Esc back  Tab more  ? help"
    assert keys_line(keys, 3) == "? help"


def test_a_help_text_flows() -> None:
    assert flowing("one\ntwo\n\nthree") == ["one two", "three"]


def test_columns_fit_the_screen_and_the_whole_row_is_kept() -> None:
    path = "/vmfs/volumes/ISCSI02/a machine with a very long name/CRM.vmdk"
    table = Table(Choice(title="t", rows=[Row(cells=(path, "1.7 GB", "not in use"), value=1)], columns=("IT LIES AT", "SIZE", "")))
    table.fit(60)
    assert width_of(table.lines[0]) == 60
    assert table.lines[0].endswith("very long name/CRM.vmdk  1.7 GB  not in use")
    assert path in table.whole[0]
    table.fit(200)
    assert table.lines == table.whole


def test_rows_that_always_stand_there_are_no_find() -> None:
    rows = [Row(cells=("vm1",), value=1), Row(cells=("vm2",), value=2), Row(cells=("again",), value=3, key="i")]
    table = Table(Choice(title="t", rows=rows))
    table.narrow("vm2")
    assert (table.found, table.first_found) == (1, 0)
    table.narrow("vm3")
    assert (table.found, table.first_found) == (0, None)
