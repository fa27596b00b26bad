"""A list on numbered lines, as pure functions: the lines of a page, and what an answer means.

    3, v        choose that row (a letter where the row has one)
    Enter       the proposed row; where none is proposed, back. With a filter on: all rows again
    0, Esc      back; in a short list also q
    b, q        the bottom of a long list; t its top; n and p the next and the previous page
    /words      only rows that hold all of these words; / alone shows all again
    ?           help

Numbers count the rows that pass the filter, from 1; rows with a letter have no number. A number is always that row, on every
page. Enter takes only a row that is on the page. Where a row has the letter of a jump, another one jumps, and is shown.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.lines import columns, row_text

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
    """A list with a label for each row: a number or a letter. `labels` and `rows` have the same index."""

    choice: Choice[T]
    height: int
    rows: tuple[Row[T], ...]
    labels: tuple[str, ...]
    words: str

    @property
    def long(self) -> bool:
        """Whether there are more rows than a page has lines."""
        return len(self.rows) > self.height

    @property
    def last_top(self) -> int:
        """The place of the first row of the last page."""
        return max(0, len(self.rows) - self.height)


def numbered(choice: Choice[T], view: View, height: int) -> Numbered[T]:
    """Returns the rows of a view with their labels; `height` is the number of rows on a page."""
    wanted = view.words.casefold().split()
    rows = tuple(row for row in choice.rows if row.key or _holds(row, wanted)) if wanted else tuple(choice.rows)
    number, labels = 0, []
    for row in rows:
        number += not row.key
        labels.append(row.key.upper() if row.key else str(number))
    return Numbered(choice=choice, height=height, rows=rows, labels=tuple(labels), words=view.words)


def first_view(choice: Choice[T], height: int) -> View:
    """Returns the view of the page with the proposed row."""
    start = choice.start or 0
    return View(top=0 if start < height else min(start, max(0, len(choice.rows) - height)))


def page(shown: Numbered[T], view: View) -> list[str]:
    """Returns the lines of one page: titles, rows, and which part of the list they are."""
    here = range(view.top, min(view.top + shown.height, len(shown.rows)))
    margin = max(map(len, shown.labels), default=1)
    titles = shown.choice.columns
    widths = columns([row.cells for row in shown.rows], titles)
    lines = [f"{'':{margin + 1}}  {row_text(titles, widths)}"] if titles else []
    lines += [f"{shown.labels[i]:>{margin}})  {row_text(shown.rows[i].cells, widths)}{_why_not(shown.rows[i])}" for i in here]
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
        return View(words=words) if words else first_view(shown.choice, shown.height)
    label = text.upper()
    if label in shown.labels:
        row = shown.rows[shown.labels.index(label)]
        return f"This cannot be chosen: {row.refused}" if row.refused else row
    return _movement(shown, view, label)


def proposal(shown: Numbered[T], view: View) -> str:
    """Returns the label of the row that Enter takes: the proposed one, where it is on the page. Empty: no row."""
    start = shown.choice.start
    here = start is not None and not shown.words and view.top <= start < view.top + shown.height
    return shown.labels[start] if start is not None and here else ""


def _empty(shown: Numbered[T], view: View) -> Row[T] | View | Said | str:
    if shown.words:
        return first_view(shown.choice, shown.height)
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
        tops = {"bottom": shown.last_top, "next": view.top + shown.height, "previous": view.top - shown.height, "top": 0}
        jump = next((jump for jump, letters in _jumps(shown).items() if label in letters), None)
        if jump is not None and len(label) == 1:
            return replace(view, top=min(max(0, tops[jump]), shown.last_top))
    elif label == "Q":
        return Said.BACK
    numbers = sum(not row.key for row in shown.rows)
    rows = f"type one number, 1 to {numbers}, or a letter" if numbers else "type a letter"
    return f"There is no {label} here: {rows}; ? explains."


def _holds(row: Row[T], wanted: Sequence[str]) -> bool:
    text = " ".join(row.cells).casefold()
    return all(word in text for word in wanted)


def _why_not(row: Row[T]) -> str:
    return f"  [cannot be chosen: {row.refused}]" if row.refused else ""
