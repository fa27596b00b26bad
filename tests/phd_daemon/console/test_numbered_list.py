"""Numbered lists: what stands on a page, and what an answer means. Short and long lists, filters, letters, refused rows."""

from __future__ import annotations

import pytest

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.numbered_list import Said, View, first_view, numbered, page, proposal, understood


def rows(count: int) -> list[Row[int]]:
    return [Row(cells=(f"disk{number}", "even" if number % 2 == 0 else "odd"), value=number) for number in range(1, count + 1)]


def said(choice: Choice[int], text: str, view: View | None = None, height: int = 10) -> object:
    view = view or first_view(choice, height)
    answer = understood(numbered(choice, view, height), view, text)
    return answer.value if isinstance(answer, Row) else answer


def lines(choice: Choice[int], view: View, height: int = 10) -> list[str]:
    return page(numbered(choice, view, height), view)


SHORT = Choice(title="t", rows=[*rows(3), Row(cells=("elsewhere",), value=99, key="e")])
LONG = Choice(title="t", rows=rows(10_000), columns=("NAME", "KIND"))


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("3", 3), ("e", 99), ("E", 99), (" 2 ", 2)])
def test_numbers_and_letters_choose(text: str, value: int) -> None:
    assert said(SHORT, text) == value


@pytest.mark.parametrize("text", ["", "0", "q", "\x1b"])
def test_a_short_list_is_left(text: str) -> None:
    assert said(SHORT, text) is Said.BACK


def test_enter_takes_what_is_proposed() -> None:
    assert said(Choice(title="t", rows=rows(3), start=1), "") == 2


def test_what_is_refused_says_why_also_when_proposed() -> None:
    choice = Choice(title="t", rows=[Row(cells=("a",), value=1, refused="in use: qemu")], start=0)
    assert said(choice, "1") == said(choice, "") == "This cannot be chosen: in use: qemu"
    assert lines(choice, View()) == ["1)  a  [cannot be chosen: in use: qemu]"]


@pytest.mark.parametrize("text", ["b", "q", "B", "Q"])
def test_the_bottom_of_a_long_list_and_its_top(text: str) -> None:
    bottom = said(LONG, text)
    assert bottom == View(top=9990)
    assert isinstance(bottom, View)
    assert lines(LONG, bottom)[-2].split() == ["10000)", "disk10000", "even"]
    assert said(LONG, "t", bottom) == View(top=0)
    assert said(LONG, "1", bottom) == 1
    assert said(LONG, "1", View(top=0)) == 1
    assert said(LONG, "9995", bottom) == 9995


def test_pages_turn_and_stop_at_the_ends() -> None:
    assert said(LONG, "n") == View(top=10)
    assert said(LONG, "p") == View(top=0)
    assert said(LONG, "p", View(top=15)) == View(top=5)
    assert said(LONG, "n", View(top=9990)) == View(top=9990)
    assert said(SHORT, "n") == "There is no N here: type one number, 1 to 3, or a letter; ? explains."


def test_what_enter_takes_is_on_the_page() -> None:
    choice = Choice(title="t", rows=rows(30), start=2)
    first, second = View(top=0), View(top=10)
    assert (proposal(numbered(choice, first, 10), first), said(choice, "", first)) == ("3", 3)
    assert proposal(numbered(choice, second, 10), second) == ""
    assert said(choice, "", second) == "No row of this page is proposed; type a number or a letter, 0 goes back."


def test_all_rows_again_begin_with_the_page_of_the_proposed_row() -> None:
    choice = Choice(title="t", rows=rows(100), start=50)
    assert said(choice, "/", View(words="odd")) == said(choice, "", View(words="odd")) == View(top=50)


def test_a_jump_whose_letter_is_a_row_has_another_that_is_shown() -> None:
    choice = Choice(title="t", rows=[*rows(30), Row(cells=("Another folder",), value=77, key="n")])
    assert said(choice, "n") == 77
    assert said(choice, "+") == View(top=10)
    assert lines(choice, View())[-1] == "rows 1 to 10 of 31: + next, p previous, b bottom, t top, /words filter"


@pytest.mark.parametrize("text", ["1-3", "1,2", "31", "00", "-1", "n n"])
def test_what_is_no_single_row_says_which_there_are(text: str) -> None:
    choice = Choice(title="t", rows=rows(30))
    assert said(choice, text) == f"There is no {text.upper()} here: type one number, 1 to 30, or a letter; ? explains."


def test_a_letter_of_a_row_wins_over_the_jump() -> None:
    choice = Choice(title="t", rows=[*rows(30), Row(cells=("bottom?",), value=7, key="b")])
    assert said(choice, "b") == 7


def test_a_filter_holds_all_words_and_counts_anew() -> None:
    view = said(LONG, "/ ODD disk99 ")
    assert view == View(words="ODD disk99")
    assert isinstance(view, View)
    shown = lines(LONG, view)
    assert shown[1].split() == ["1)", "disk99", "odd"]
    assert shown[2].split() == ["2)", "disk991", "odd"]
    assert said(LONG, "2", view) == 991
    assert said(LONG, "", view) == said(LONG, "/", view) == View()


def test_a_filter_without_any_row_can_be_left() -> None:
    view = View(words="nothing")
    assert said(LONG, "1", view) == "There is no 1 here: type a letter; ? explains."
    assert said(LONG, "", view) == View()
    assert "(0 of 10000; / shows all)" in lines(LONG, view)[-1]


def test_rows_with_a_letter_are_never_filtered_away() -> None:
    assert said(SHORT, "e", View(words="disk2")) == 99
    assert said(SHORT, "1", View(words="disk2")) == 2


def test_the_page_with_the_proposed_row_comes_first() -> None:
    assert first_view(Choice(title="t", rows=rows(100), start=50), 10) == View(top=50)
    assert first_view(Choice(title="t", rows=rows(100), start=98), 10) == View(top=90)
    assert first_view(Choice(title="t", rows=rows(100), start=5), 10) == View(top=0)


def test_wide_characters_take_two_places() -> None:
    choice = Choice(title="t", rows=[Row(cells=("仮想", "b"), value=1), Row(cells=("abcde", "d"), value=2)])
    assert lines(choice, View()) == ["1)  仮想   b", "2)  abcde  d"]


def test_columns_stand_under_their_titles() -> None:
    choice = Choice(title="t", rows=[Row(cells=("a", "bb"), value=1), Row(cells=("cccc", "d"), value=2)], columns=("ONE", "TWO"))
    assert lines(choice, View()) == ["    ONE   TWO", "1)  a     bb", "2)  cccc  d"]
