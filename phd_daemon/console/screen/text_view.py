"""Lines to read, folded to the width and drawn line by line; more lines may be added while somebody reads."""

from __future__ import annotations

from collections.abc import Iterable

from rich.segment import Segment
from textual.events import Resize
from textual.strip import Strip
from textual.widget import Widget

from phd_daemon.console.lines import clean_lines, fit, fold_all


class TextView(Widget):
    """A text that can be scrolled. `sticky`: it stays at the end as lines come, until somebody scrolls up."""

    def __init__(self, lines: Iterable[str], *, sticky: bool = False) -> None:
        super().__init__()
        self._lines = clean_lines(lines)
        self._folded: list[str] = []
        self._width = 0
        self.top = 0
        self.sticky = sticky

    def show(self, lines: Iterable[str]) -> None:
        """Shows another text, from its first line on; the same one stays where it is."""
        new = clean_lines(lines)
        if new != self._lines:
            self._lines, self._folded, self.top, self.sticky = [], [], 0, False
            self.add(new)

    def add(self, lines: Iterable[str]) -> None:
        """Adds lines at the end."""
        new = clean_lines(lines)
        self._lines += new
        if self._width:
            self._folded += fold_all(new, self._width)
        self.scroll(0)

    def lines_needed(self, width: int) -> int:
        """Returns the height at which all of it is seen at this width."""
        self._fold(width)
        return len(self._folded)

    @property
    def long(self) -> bool:
        """Whether there is more than is seen at once."""
        return len(self._folded) > self.size.height

    @property
    def page(self) -> int:
        """The lines by which a page scrolls: one line of the last page stays."""
        return max(1, self.size.height - 1)

    @property
    def _last_top(self) -> int:
        return max(0, len(self._folded) - self.size.height)

    def scroll(self, step: int) -> None:
        """Scrolls down by so many lines, or up. At the end the text becomes sticky again."""
        last = self._last_top
        self.top = last if self.sticky and step == 0 else max(0, min(self.top + step, last))
        if step:
            self.sticky = self.top == last
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Folds the lines again; the same part of the text is shown."""
        del event
        part = self.top / max(1, len(self._folded))
        self._fold(self.size.width)
        self.top = int(part * len(self._folded))
        self.scroll(0)

    def _fold(self, width: int) -> None:
        if width != self._width:
            self._width = width
            self._folded = fold_all(self._lines, width)

    def render_line(self, y: int) -> Strip:
        """Draws one line."""
        place = self.top + y
        text = self._folded[place] if place < len(self._folded) else ""
        return Strip([Segment(fit(text, self.size.width), self.rich_style)], self.size.width)
