"""A list to choose from: the text above it, the rows, the filter, and what the keys do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from textual.events import Key, Paste
from textual.geometry import Size
from textual.widget import Widget

from phd_daemon.console.face import Choice
from phd_daemon.console.lines import one_line
from phd_daemon.console.screen.question_screen import PADDING, Bar, QuestionScreen, Reply, reading_keys
from phd_daemon.console.screen.row_list import MARGIN, RowList, Table
from phd_daemon.console.screen.text_view import TextView

_BARS = 3  # the title, the state, the keys
_LEAST_LIST, _LOW_LIST = 5, 3
_ROOMY = 16  # lines of a screen that has free ones


class ChoiceScreen(QuestionScreen):
    """One list. The letter of a row chooses it; other letters move."""

    def __init__(self, choice: Choice[Any], reply: Reply, *, newest: deque[Choice[Any]] | None = None, pulse: float = 1.0) -> None:
        super().__init__(choice.title, reply, help_text=choice.help, pulse=pulse if newest is not None else None)
        self.text = TextView(choice.intro)
        self.list = RowList(Table(choice), choice.start or 0)
        self.detail = TextView(())
        self.state = Bar("", "state")
        self._words = ""
        self._below = 0  # lines that the current row needs below
        self._typing = False
        self._reading: TextView | None = None
        self._objection = ""
        self._newest = newest

    def look(self) -> None:
        """Takes over the newest rows; the same row stays chosen, and the filter is kept."""
        if self._newest and self.open:
            choice = self._newest.pop()
            self.text.show(choice.intro)
            if not self.list.take_over(Table(choice), self._words):
                self.asks_anew()
            self.lay_out(self.app.size)

    def body(self) -> list[Widget]:
        """The text, the list, the whole text of a row that is wider than the screen, and the filter."""
        return [self.text, self.list, self.detail, self.state]

    def lay_out(self, size: Size) -> None:
        """The list gets the lines it needs, what stands below it and the text above it the rest, but at least a third."""
        width, height = size
        needed = self.text.lines_needed(width - PADDING)
        self.list.table.fit(width - PADDING - MARGIN)
        gap = bool(needed) and height >= _ROOMY
        self.detail.styles.height = detail = self._detail_lines(size, bool(needed) + gap)
        room = max(2, height - _BARS - gap - detail)
        text = min(needed, max(room - self.list.lines_needed(), room // 3))
        self.text.styles.height = text
        self.text.styles.margin = (0, 0, 1 if text and gap else 0, 0)
        self.call_after_refresh(self.tell)

    def _detail_lines(self, size: Size, above: int) -> int:
        """How many lines the row with the most below it needs, on a low screen the current one; the list keeps some."""
        width, height = size
        needed = max(self._below, self.list.table.lines_below(width - PADDING) if height >= _ROOMY else 0)
        kept = min(_LEAST_LIST if height >= _ROOMY else _LOW_LIST, self.list.lines_needed())
        return max(0, min(needed, height - _BARS - kept - above))

    def tell(self) -> None:
        """Updates the lines below: what of the row is not seen, the place in the list, the filter, and what the keys do."""
        rows = self.list
        self.detail.show(rows.below)
        needed = self.detail.lines_needed(self.app.size.width - PADDING) if rows.below else 0
        if needed != self._below:
            self._below = needed
            self.lay_out(self.app.size)
        of = len(rows.table.lines)
        found, all_of_them = rows.table.found, sum(not row.key for row in rows.table.rows)
        matching = f"{found} of {all_of_them}" if found else "no row has all of these words"
        counted = matching if self._words else f"{rows.place + 1} of {of}" if rows.long else ""
        typed = f"Filter: {self._words}{'_' if self._typing else ''}   " if self._words or self._typing else ""
        self.state.say(self._objection or f"{typed}{counted}" if of else "Nothing to choose from.")
        self.hint.say(self._keys_line())

    def _keys_line(self) -> str:
        if self._typing:
            return "type to narrow the list  Up/Down move  Enter done  Esc show all again"
        jumps = "1 top  b bottom  " if self.list.long else ""
        back = "show all again" if self._words else "back"
        narrow = "/ filter  " if self._words or sum(not row.key for row in self.list.table.rows) > 1 else ""
        tab = "" if len(self._places()) < 2 else "Tab list  " if self._places()[1] is None else "Tab more  "
        return f"Enter choose  Esc {back}  {tab}{narrow}{jumps}? help"

    def _places(self) -> list[TextView | None]:
        """Where the keys may move, from where they move now on; None is the list."""
        places = [None, *(text for text in (self.text, self.detail) if text.long)]
        at = places.index(self._reading) if self._reading in places else 0
        return places[at:] + places[:at]

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """The keys that move in the list or in the text above it, and those that choose, filter and leave."""
        rows = self.list
        moves = {
            "up": lambda: rows.move(-1),
            "down": lambda: rows.move(1),
            "pageup": lambda: rows.move(-rows.room),
            "pagedown": lambda: rows.move(rows.room),
            "home": lambda: rows.go_to(0),
            "end": lambda: rows.go_to(len(rows.table.shown)),
            "left": lambda: rows.slide(-8),
            "right": lambda: rows.slide(8),
            "f1": self.explain,
        }
        if self._typing:
            return {
                **moves,
                "enter": lambda: self._type(False),
                "escape": self._show_all,
                "backspace": lambda: self._narrow(self._words[:-1]),
                "ctrl+u": lambda: self._narrow(""),
            }
        return {
            **moves,
            **(reading_keys(self._reading) if self._reading in self._places() and self._reading else {}),
            "tab": self._turn,
            "enter": self._take,
            "escape": self.leave if not self._words else self._show_all,
            "slash": lambda: self._type(True),
            "question_mark": self.explain,
            "1": lambda: rows.go_to(0),
            "b": self._jump,
            "q": self._jump if rows.long else self.leave,
        }

    def pressed(self, event: Key) -> bool:
        """Looks for a row with this letter first, then for the key."""
        self._objection = ""
        character = event.character if event.is_printable else None
        if self._typing and character:
            self._narrow(self._words + character)
            return True
        place = self.list.table.with_key(character) if character else None
        if place is not None:
            self.list.go_to(place)
            self._take()
            self.tell()
            return True
        if event.key != "enter":
            self.call_next(self.tell)
        return super().pressed(event)

    def on_paste(self, event: Paste) -> None:
        """Adds a name that was pasted to the filter."""
        if self._typing:
            self._narrow(self._words + one_line(event.text.replace("\n", " ")))

    def _take(self) -> None:
        index = self.list.index
        if not self.list.table.lines:
            self.leave()
        elif index is not None and (reason := self.list.table.rows[index].refused):
            self._objection = f"This one cannot be chosen: {reason}"
            self.tell()
        elif index is not None:
            self.answer(self.list.table.rows[index].value)

    def _jump(self) -> None:
        if self.list.long:
            self.list.go_to(len(self.list.table.shown))

    def _turn(self) -> None:
        places = self._places()
        self._reading = places[1 % len(places)]

    def _type(self, on: bool) -> None:
        self._typing = on
        self.tell()

    def _show_all(self) -> None:
        self._typing = False
        self._narrow("")

    def _narrow(self, words: str) -> None:
        self._words = words
        self.list.narrow(words)
        self.tell()
