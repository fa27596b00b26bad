"""The rows of a choice, laid out once and narrowed as a person types. No drawing here, and nothing that grows with the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.lines import clean, columns, narrower, row_text, width_of


class Table:
    """One line a row: its key, its cells, and why it cannot be chosen. `shown` are the rows that pass the filter."""

    def __init__(self, choice: Choice[Any]) -> None:
        self.rows = choice.rows
        cells = [tuple(map(clean, row.cells)) for row in choice.rows]
        titles = tuple(map(clean, choice.columns))
        self._cells, self._titles = cells, titles
        self._widths = columns(cells, titles)
        self._margin = "    " if any(row.key for row in choice.rows) else ""
        self.whole = self._lines(self._widths)
        self.whole_header = self._header(self._widths)
        self.lines, self.header = self.whole, self.whole_header
        self.width = max(map(width_of, self.lines), default=0)
        self._searched = [" ".join(row).casefold() for row in cells]
        self.shown: range | list[int] = range(len(self.lines))

    def fit(self, width: int) -> None:
        """Lay the rows out for lines of so many cells: the widest columns give way. `whole` keeps all there is to say."""
        widths = narrower(self._widths, width - len(self._margin))
        self.header = self._header(widths)
        self.lines = self.whole if widths == self._widths else self._lines(widths)

    def _header(self, widths: Sequence[int]) -> str:
        return self._margin + row_text(self._titles, widths)

    def _lines(self, widths: Sequence[int]) -> list[str]:
        rows = zip(self.rows, self._cells, strict=True)
        return [_key(row, self._margin) + row_text(cells, widths) + _reason(row) for row, cells in rows]

    @property
    def found(self) -> int:
        """How many rows the filter left, those that always stand there not counted."""
        return sum(not self.rows[index].key for index in self.shown)

    @property
    def first_found(self) -> int | None:
        """The place of the first of them."""
        return next((place for place, index in enumerate(self.shown) if not self.rows[index].key), None)

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


def _key(row: Row[Any], margin: str) -> str:
    return f"({row.key.upper()}) " if row.key else margin


def _reason(row: Row[Any]) -> str:
    return f"  [cannot be chosen: {clean(row.refused)}]" if row.refused else ""
