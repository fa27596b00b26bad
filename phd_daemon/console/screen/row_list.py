"""A list drawn line by line: only the rows on the screen are read, so 10,000 rows are drawn as fast as twenty.

Textual's DataTable and OptionList need seconds to take or filter 10,000 rows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from phd_daemon.console.face import Choice, Row
from phd_daemon.console.lines import columns, fit, narrower, one_line, row_text
from phd_daemon.show.table import below, width_of
from restore_core.naming import searchable


class Table:
    """One line a row: its key, its cells, and why it cannot be chosen. `shown` are the rows that pass the filter."""

    def __init__(self, choice: Choice[Any]) -> None:
        self.rows = choice.rows
        cells = [tuple(map(one_line, row.cells)) for row in choice.rows]
        titles = tuple(map(one_line, choice.columns))
        self._in_columns = columns(cells, titles)
        self._widths = widths = [max(column) for column in self._in_columns]
        self._cells, self._titles = cells, (*titles, *[""] * (len(widths) - len(titles)))
        self._margin = "    " if any(row.key for row in choice.rows) else ""
        self.whole = self._lines(widths, sys.maxsize)
        self.whole_header = self._header(widths)
        self.lines, self.header = self.whole, self.whole_header
        self._room = self.width = max(map(width_of, self.lines), default=0)
        self._most: int | None = None  # lines below, of the row that has most of them
        self._searched = [searchable(" ".join(row)) for row in cells]
        self.shown: range | list[int] = range(len(self.lines))

    def fit(self, room: int) -> None:
        """Lays the rows out for lines of `room` cells. What does not stand whole in its row then is returned by `below`."""
        if room == self._room:
            return
        self._room, self._most = room, None
        self._widths = narrower(self._in_columns, room - len(self._margin))
        self.header, self.lines = self._header(self._widths), self._lines(self._widths, room)

    def below(self, index: int) -> list[str]:
        """Returns what is not seen whole of a row: each such cell with its title, and why the row cannot be chosen."""
        cells, row = self._cells[index], self.rows[index]
        if len(cells) == len(self._widths):
            cut = [at for at, cell in enumerate(cells) if width_of(cell) > self._widths[at]]
            lines = below(self._titles, cells, cut)
        else:
            lines = ["  ".join(cells)] if width_of("  ".join(cells)) > self._room - len(self._margin) else []
        return [*lines, *([_reason(row)] if row.refused and _reason(row) not in self.lines[index] else [])]

    def lines_below(self, width: int) -> int:
        """Returns about how many lines of this width stand below the row that has most of them."""
        if self._most is None:
            needed = (sum(width_of(text) // width + 1 for text in self.below(index)) for index in range(len(self.rows)))
            self._most = max(needed, default=0) if self.width > self._room else 0
        return self._most

    def _header(self, widths: Sequence[int]) -> str:
        return self._margin + row_text(self._titles, widths) if any(self._titles) else ""

    def _lines(self, widths: Sequence[int], room: int) -> list[str]:
        rows = zip(self.rows, self._cells, strict=True)
        texts = (_key(row, self._margin) + "  ".join(filter(None, (row_text(cells, widths), _reason(row)))) for row, cells in rows)
        return [text if width_of(text) <= room else fit(text, max(0, room - 3)) + "..." for text in texts]

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
        words = searchable(one_line(text)).split()
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
    return f"[cannot be chosen: {one_line(row.refused)}]" if row.refused else ""


_HERE = Style(bold=True, reverse=True)
_TITLES = Style(underline=True)
MARGIN = 3


class RowList(Widget):
    """The shown rows of a table. `>` marks the current row, `x` those that cannot be chosen."""

    def __init__(self, table: Table, place: int) -> None:
        super().__init__()
        self.table = table
        self.place = place
        self._top = 0
        self._left = 0

    @property
    def index(self) -> int | None:
        """The row that Enter takes; None when no row passes the filter."""
        return self.table.shown[self.place] if self.table.shown else None

    @property
    def room(self) -> int:
        """How many rows are seen at once."""
        return max(1, self.size.height - bool(self.table.header))

    @property
    def long(self) -> bool:
        """Whether there are more rows than are seen at once: `b`, `q` and `1` jump then."""
        return len(self.table.shown) > self.room

    @property
    def below(self) -> list[str]:
        """What is not seen whole of the current row."""
        return [] if self.index is None else self.table.below(self.index)

    def move(self, step: int) -> None:
        """Moves so many rows down, at most to an end of the list."""
        self.go_to(self.place + step)

    def go_to(self, place: int) -> None:
        """Makes this the current row, and shows it."""
        self.place = max(0, min(place, len(self.table.shown) - 1))
        self.refresh()

    def slide(self, step: int) -> None:
        """Shows what is further right or left."""
        widest = max((width_of(self.table.whole[index]) for index in self._seen()), default=0)
        self._left = max(0, min(self._left + step, widest + MARGIN - self.size.width))
        self.refresh()

    def narrow(self, text: str) -> None:
        """Filters. The current row stays if it is still shown; a row that is always shown stays only without a filter."""
        index = self.index
        self.table.narrow(text)
        shown = self.table.shown
        if index is not None and index in shown and not (text.strip() and self.table.rows[index].key):
            self.go_to(shown.index(index))
        else:
            self.go_to(self.table.first_found or 0)

    def take_over(self, table: Table, words: str) -> bool:
        """Takes other rows; the one with the same key or first cell stays the current row. Returns whether it is still there."""
        stood = None if self.index is None else _name(self.table, self.index)
        self.table = table
        table.narrow(words)
        same = next((place for place, index in enumerate(table.shown) if _name(table, index) == stood), None)
        self.go_to(self.place if same is None else same)
        return same is not None

    def lines_needed(self) -> int:
        """Returns the height at which all rows are seen."""
        return len(self.table.shown) + bool(self.table.header)

    def _seen(self) -> range | list[int]:
        self._top = max(self.place - self.room + 1, min(self._top, self.place, len(self.table.shown) - self.room), 0)
        return self.table.shown[self._top : self._top + self.room]

    def render_line(self, y: int) -> Strip:
        """Draws one line: the titles, or a row."""
        seen = self._seen()
        header = bool(self.table.header)
        if header and y == 0:
            return self._strip("   ", self.table.whole_header if self._left else self.table.header, _TITLES)
        if y - header >= len(seen):
            return self._strip("", "", Style())
        index = seen[y - header]
        here = self._top + y - header == self.place
        mark = f"{'>' if here else ' '}{'x' if self.table.rows[index].refused else ' '} "
        lines = self.table.whole if self._left else self.table.lines
        return self._strip(mark, lines[index], _HERE if here else Style())

    def _strip(self, mark: str, text: str, style: Style) -> Strip:
        width = self.size.width
        if self._left:
            text = text[self._left :]
        return Strip([Segment(fit(mark + text, width), self.rich_style + style)], width)


def _name(table: Table, index: int) -> str:
    """Returns what a row is recognized by in newer rows."""
    row = table.rows[index]
    return row.key or row.cells[0]
