"""The rows of a list as lines of text, laid out once and filtered as a person types. Pure."""

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
        """Lays the rows out for a width: the widest columns are cut. `whole` keeps the full text."""
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
        """How many rows pass the filter, without those that are always shown."""
        return sum(not self.rows[index].key for index in self.shown)

    @property
    def first_found(self) -> int | None:
        """The place of the first of those rows."""
        return next((place for place, index in enumerate(self.shown) if not self.rows[index].key), None)

    def narrow(self, text: str) -> None:
        """Shows the rows that hold every word of the text, in any column and in either case; rows with a key are always shown."""
        words = clean(text).casefold().split()
        if not words:
            self.shown = range(len(self.lines))
            return
        found = enumerate(zip(self._searched, self.rows, strict=True))
        self.shown = [index for index, (text, row) in found if row.key or all(word in text for word in words)]

    def with_key(self, letter: str) -> int | None:
        """Returns the place of the shown row with that key."""
        for place, index in enumerate(self.shown):
            if self.rows[index].key and self.rows[index].key.casefold() == letter.casefold():
                return place
        return None


def _key(row: Row[Any], margin: str) -> str:
    return f"({row.key.upper()}) " if row.key else margin


def _reason(row: Row[Any]) -> str:
    return f"  [cannot be chosen: {clean(row.refused)}]" if row.refused else ""
