"""A list on numbered lines, as pure functions: the lines of a page, and what an answer means.

    3, v        choose that row (a letter where the row has one)
    Enter       the proposed row; where none is proposed, back. With a filter on: all rows again
    0, Esc      back; in a short list also q
    b, q        the bottom of a long list; t its top; n and p the next and the previous page
    /words      only rows that hold all of these words; / alone shows all again
    ?           help

Numbers count the rows that pass the filter, from 1; rows with a letter have no number. A number is always that row, on every
page. Enter takes only a row that is on the page. Where a row has the letter of a jump, another one jumps, and is shown.

A cell that does not fit stands below its row, whole, as in the tables of the commands; a page holds as many rows as have room.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.lines import clean_lines, one_line
from phd_daemon.show.table import by_row, width_of
from restore_core.naming import searchable

T = TypeVar("T")
ESCAPE = "\x1b"


class Said(enum.Enum):
    """Answers that choose no row and show no other page."""

    BACK = "back"
    HELP = "help"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is shown of a list: the rows that hold all of `words`, from the one at place `top` on."""

    words: str = ""
    top: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered(Generic[T]):
    """A list with a label for each row: a number or a letter. `labels`, `rows` and `lines` have the same index."""

    choice: Choice[T]
    height: int
    width: int
    rows: tuple[Row[T], ...]
    labels: tuple[str, ...]
    words: str
    titles: list[str]
    lines: list[list[str]]  # of each row
    heights: list[int]  # the lines of the terminal that each row takes

    @property
    def long(self) -> bool:
        """Whether there are more rows than a page has lines for."""
        return sum(self.heights) > self.height

    @property
    def last_top(self) -> int:
        """The place of the first row of the last page."""
        return self.page_before(len(self.rows))

    def page_from(self, top: int) -> int:
        """Returns the place after the last row of the page that begins at `top`; a page has at least one row."""
        return min(top + self._fitting(self.heights[top:]), len(self.rows))

    def page_before(self, end: int) -> int:
        """Returns the place of the first row of the page that ends before `end`."""
        return max(0, end - self._fitting(reversed(self.heights[:end])))

    def _fitting(self, heights: Iterable[int]) -> int:
        room, count = self.height, 0
        for height in heights:
            room -= height
            if room < 0:
                break
            count += 1
        return max(1, count)


def numbered(choice: Choice[T], view: View, height: int, width: int = sys.maxsize) -> Numbered[T]:
    """Returns the rows of a view with their labels. A page has `height` lines of `width` places."""
    wanted = searchable(view.words).split()
    rows = tuple(row for row in choice.rows if row.key or _holds(row, wanted)) if wanted else tuple(choice.rows)
    number, labels = 0, []
    for row in rows:
        number += not row.key
        labels.append(row.key.upper() if row.key else str(number))
    titles, lines = _lines(choice, rows, labels, width)
    return Numbered(
        choice=choice,
        height=height,
        width=width,
        rows=rows,
        labels=tuple(labels),
        words=view.words,
        titles=titles,
        lines=lines,
        heights=[lines_on_screen(one, width) for one in lines],
    )


def _lines(choice: Choice[T], rows: Sequence[Row[T]], labels: Sequence[str], width: int) -> tuple[list[str], list[list[str]]]:
    """Returns the line of the titles, if there are any, and those of each row; one with fewer cells than others has no columns."""
    margin = max(map(len, labels), default=1)
    marks = [f"{label:>{margin}})" for label in labels]
    count = max(len(choice.columns), *(len(row.cells) for row in rows), 0)
    titles = ["", *map(one_line, choice.columns), *[""] * (count - len(choice.columns))]
    cells = [(mark, *map(one_line, row.cells)) for mark, row in zip(marks, rows, strict=True)]
    head, *in_columns = by_row(titles, [one for one in cells if len(one) == len(titles)], width)
    laid_out = iter(in_columns)
    lines = [next(laid_out) if len(one) == len(titles) else ["  ".join(one)] for one in cells]
    room = max(0, width - margin - 3)
    found = [_with_reason(one, row, width) for one, row in zip(lines, rows, strict=True)]
    indented = [[first, *(f"{'':{margin + 3}}{line.strip()}" for line in others)] for first, *others in found]
    return (head if choice.columns and room else []), indented


def _with_reason(lines: list[str], row: Row[T], width: int) -> list[str]:
    """Returns the lines of a row with why it cannot be chosen: beside it where that fits, else below."""
    if not row.refused:
        return lines
    reason = f"[cannot be chosen: {one_line(row.refused)}]"
    beside = f"{lines[0]}  {reason}"
    return [beside] if len(lines) == 1 and width_of(beside) <= width else [*lines, reason]


def lines_on_screen(texts: Iterable[str], width: int) -> int:
    """Returns how many lines of a terminal these texts take, which folds them at `width`."""
    return sum(max(1, -(-width_of(line) // width)) for line in clean_lines(texts))


def first_view(choice: Choice[T], height: int, width: int = sys.maxsize) -> View:
    """Returns the view of the page with the proposed row."""
    shown, start = numbered(choice, View(), height, width), choice.start or 0
    return View(top=0 if start < shown.page_from(0) else min(start, shown.last_top))


def page(shown: Numbered[T], view: View) -> list[str]:
    """Returns the lines of one page: titles, rows, and which part of the list they are."""
    here = range(view.top, shown.page_from(view.top))
    lines = [*shown.titles, *(line for at in here for line in shown.lines[at])]
    if shown.words:
        found, of = (sum(not row.key for row in rows) for rows in (shown.rows, shown.choice.rows))
        lines.append(f"only rows with: {shown.words} ({found} of {of}; / shows all)")
    if shown.long:
        jumps = ", ".join(f"{letters[0].lower()} {jump}" for jump, letters in _jumps(shown).items())
        lines.append(f"rows {here.start + 1} to {here.stop} of {len(shown.rows)}: {jumps}, /words filter")
    return lines


def understood(shown: Numbered[T], view: View, answer: str) -> Row[T] | View | Said | str:
    """Returns what an answer means: a row, another page, back or help; or a text that says why it means nothing."""
    text = answer.strip()
    if text.startswith(ESCAPE) or text == "0":
        return Said.BACK
    if not text:
        return _empty(shown, view)
    if text == "?":
        return Said.HELP
    if text.startswith("/"):
        words = text[1:].strip()
        return View(words=words) if words else first_view(shown.choice, shown.height, shown.width)
    label = text.upper()
    if label in shown.labels:
        row = shown.rows[shown.labels.index(label)]
        return f"This cannot be chosen: {row.refused}" if row.refused else row
    return _movement(shown, view, label)


def proposal(shown: Numbered[T], view: View) -> str:
    """Returns the label of the row that Enter takes: the proposed one, where it is on the page. Empty: no row."""
    start = shown.choice.start
    here = start is not None and not shown.words and view.top <= start < shown.page_from(view.top)
    return shown.labels[start] if start is not None and here else ""


def _empty(shown: Numbered[T], view: View) -> Row[T] | View | Said | str:
    if shown.words:
        return first_view(shown.choice, shown.height, shown.width)
    if shown.choice.start is None:
        return Said.BACK
    if not proposal(shown, view):
        return "No row of this page is proposed; type a number or a letter, 0 goes back."
    row = shown.choice.rows[shown.choice.start]
    return f"This cannot be chosen: {row.refused}" if row.refused else row


_JUMPS = {"next": "N+", "previous": "P-", "bottom": "BQ$", "top": "T^"}


def _jumps(shown: Numbered[T]) -> dict[str, str]:
    """Returns the letters of each jump that are no row's own."""
    return {jump: "".join(letter for letter in letters if letter not in shown.labels) for jump, letters in _JUMPS.items()}


def _movement(shown: Numbered[T], view: View, label: str) -> View | Said | str:
    if shown.long:
        after, before = shown.page_from(view.top), shown.page_before(view.top)
        tops = {"bottom": shown.last_top, "next": after, "previous": before, "top": 0}
        jump = next((jump for jump, letters in _jumps(shown).items() if label in letters), None)
        if jump is not None and len(label) == 1:
            return replace(view, top=min(max(0, tops[jump]), shown.last_top))
    elif label == "Q":
        return Said.BACK
    numbers = sum(not row.key for row in shown.rows)
    rows = f"type one number, 1 to {numbers}, or a letter" if numbers else "type a letter"
    return f"There is no {label} here: {rows}; ? explains."


def _holds(row: Row[T], wanted: Sequence[str]) -> bool:
    text = searchable(" ".join(row.cells))
    return all(word in text for word in wanted)
