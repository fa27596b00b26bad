"""A list drawn line by line: only what stands on the screen is ever looked at, so 10,000 rows cost what twenty cost."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from phd_daemon.console.lines import fit, width_of
from phd_daemon.console.screen.table import Table

_HERE = Style(bold=True, reverse=True)
_TITLES = Style(underline=True)
MARGIN = 3


class RowList(Widget):
    """The shown rows of a table and the one the person stands on: `>` in front of it, `x` at those that cannot be chosen."""

    def __init__(self, table: Table, place: int) -> None:
        super().__init__()
        self.table = table
        self.place = place
        self._top = 0
        self._left = 0

    @property
    def index(self) -> int | None:
        """The row that Enter takes, None when the filter leaves no row."""
        return self.table.shown[self.place] if self.table.shown else None

    @property
    def room(self) -> int:
        """How many rows are seen at once."""
        return max(1, self.size.height - bool(self.table.header))

    @property
    def long(self) -> bool:
        """There is more than is seen at once: `b`, `q` and `1` jump."""
        return len(self.table.shown) > self.room

    @property
    def cut(self) -> bool:
        """The row the person stands on is wider than the screen."""
        return self.index is not None and width_of(self.table.whole[self.index]) > self.size.width - MARGIN

    def move(self, step: int) -> None:
        """Stand so many rows further down, at most at an end of the list."""
        self.stand(self.place + step)

    def stand(self, place: int) -> None:
        """Stand there, and see it."""
        self.place = max(0, min(place, len(self.table.shown) - 1))
        self.refresh()

    def slide(self, step: int) -> None:
        """Show what stands further right or left."""
        widest = max((width_of(self.table.whole[index]) for index in self._seen()), default=0)
        self._left = max(0, min(self._left + step, widest + MARGIN - self.size.width))
        self.refresh()

    def narrow(self, text: str) -> None:
        """Filter, and stay on the same row if it is still there; one that always is there only while there is no filter."""
        index = self.index
        self.table.narrow(text)
        shown = self.table.shown
        if index is not None and index in shown and not (text.strip() and self.table.rows[index].key):
            self.stand(shown.index(index))
        else:
            self.stand(self.table.first_found or 0)

    def take_over(self, table: Table, words: str) -> None:
        """Other rows: stand on the one with the same key or first cell, if there is one."""
        stood = None if self.index is None else _name(self.table, self.index)
        self.table = table
        table.narrow(words)
        self.stand(next((place for place, index in enumerate(table.shown) if _name(table, index) == stood), self.place))

    def lines_needed(self) -> int:
        """The height at which all rows are seen."""
        return len(self.table.shown) + bool(self.table.header)

    def _seen(self) -> range | list[int]:
        self._top = max(self.place - self.room + 1, min(self._top, self.place, len(self.table.shown) - self.room), 0)
        return self.table.shown[self._top : self._top + self.room]

    def render_line(self, y: int) -> Strip:
        """One line on the screen: the titles, or the row that stands there."""
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
    """What makes a row the same one in a newer list."""
    row = table.rows[index]
    return row.key or row.cells[0]
