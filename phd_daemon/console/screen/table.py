"""The rows of a choice, laid out once and narrowed as a person types. No drawing here, and nothing that grows with the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.screen.lines import clean, columns, row_text, width_of


class Table:
    """One line a row: its key, its cells, and why it cannot be chosen. `shown` are the rows that pass the filter."""

    def __init__(self, choice: Choice[Any]) -> None:
        self.rows = choice.rows
        cells = [tuple(map(clean, row.cells)) for row in choice.rows]
        titles = tuple(map(clean, choice.columns))
        widths = columns([row for row in cells if len(row) >= len(titles)], titles)
        margin = "    " if any(row.key for row in choice.rows) else ""
        self.header = margin + row_text(titles, widths) if titles else ""
        self.lines = [_key(row, margin) + _cells(cell, widths) + _reason(row) for row, cell in zip(self.rows, cells, strict=True)]
        self.width = max(map(width_of, self.lines), default=0)
        self._searched = [" ".join(row).casefold() for row in cells]
        self.shown: range | list[int] = range(len(self.lines))

    def narrow(self, text: str) -> None:
        """Show the rows that hold every word of the text, in any column and in either case; rows with a key always stand there."""
        words = clean(text).casefold().split()
        if not words:
            self.shown = range(len(self.lines))
            return
        found = enumerate(zip(self._searched, self.rows, strict=True))
        self.shown = [index for index, (text, row) in found if row.key or all(word in text for word in words)]

    def with_key(self, letter: str) -> int | None:
        """The place among the shown rows of the one with that key."""
        for place, index in enumerate(self.shown):
            if self.rows[index].key and self.rows[index].key.casefold() == letter.casefold():
                return place
        return None


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A row with fewer cells than there are columns says something else, and is not aligned."""
    return row_text(cells, widths if len(cells) == len(widths) else [width_of(cell) for cell in cells])


def _key(row: Row[Any], margin: str) -> str:
    return f"({row.key.upper()}) " if row.key else margin


def _reason(row: Row[Any]) -> str:
    return f"  [cannot be chosen: {clean(row.refused)}]" if row.refused else ""
