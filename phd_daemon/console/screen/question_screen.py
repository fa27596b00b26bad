"""What all screens have in common: a title, a line of keys, one answer, and help, which is a text to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import constants
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Paste, Resize
from textual.geometry import Size
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from phd_daemon.console.lines import fit, flowing, fold, keys_line, one_line
from phd_daemon.console.screen.text_view import TextView
from phd_daemon.show.table import width_of

Reply = Callable[[Any], object]


_BARS = 2  # the title, the keys
_MOVING = "Up/Down/Space move  1 top  b bottom  "
_PLAIN, _EDGE = Style(), Style(bold=True, reverse=True)
PADDING = 2
"""Columns of a line that are left free."""


class Bar(Widget):
    """A line of text at an edge of the screen, or between two widgets."""

    def __init__(self, text: str, name: str, style: Style = _PLAIN) -> None:
        super().__init__(id=name)
        self._text, self._style = one_line(text), style

    def say(self, text: str) -> None:
        """Shows this text instead."""
        if one_line(text) != self._text:
            self._text = one_line(text)
            self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Returns the lines it needs; a title may have more than one."""
        del container, viewport
        return len(fold(self._text, width - 1))

    def render_line(self, y: int) -> Strip:
        """Draws one of its lines; a bar with one line is cut."""
        width = self.size.width
        text = self._text if self.size.height == 1 else [*fold(self._text, width - 1), ""][y]
        if self.id == "keys":
            text = keys_line(text, width)
        return Strip([Segment(fit(f" {text}" if width_of(text) < width else text, width), self.rich_style + self._style)], width)


class QuestionScreen(Screen[None], inherit_bindings=False):
    """One question. It is answered once; after that it stays on the screen until the next one replaces it.

    It takes only what is typed after it was drawn. So nothing that is typed ahead, or pasted in several lines, answers a question
    that nobody has seen.
    """

    AUTO_FOCUS: ClassVar[str | None] = ""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "interrupted", priority=True, show=False)]

    def __init__(self, title: str, reply: Reply, *, help_text: str = "", pulse: float | None = None) -> None:
        super().__init__()
        self._pulse = pulse
        self.bar = Bar(title, "title", _EDGE)
        self.hint = Bar("", "keys", _EDGE)
        self._reply: Reply | None = reply
        self._help = help_text
        self._drawn_at: float | None = None

    def body(self) -> list[Widget]:
        """Returns the widgets between the title and the line of keys."""
        raise NotImplementedError

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Returns what the keys do, by Textual's names for them."""
        raise NotImplementedError

    def lay_out(self, size: Size) -> None:
        """Sets the heights of the body and the line of keys; called before the first drawing and when the size changes."""

    def look(self) -> None:
        """Shows what has come since the last look; called when the screen is shown, and after every `pulse` if it has one."""

    def on_mount(self) -> None:
        """Starts to look."""
        if self._pulse is not None:
            self.set_interval(self._pulse, self.look)
            self.look()

    def compose(self) -> ComposeResult:
        """The title, the body, the line of keys."""
        yield self.bar
        yield from self.body()
        yield self.hint
        self.lay_out(self.app.size)

    def on_resize(self, event: Resize) -> None:
        """The terminal has another size."""
        self.lay_out(event.size)

    @property
    def open(self) -> bool:
        """Whether it waits for an answer."""
        return self._reply is not None

    def takes(self, event: Key | Paste) -> bool:
        """Whether this was typed after the question was drawn, and may answer it. An Esc is known only after a while."""
        waited = constants.ESCAPE_DELAY if isinstance(event, Key) and event.key == "escape" and not self.app.is_headless else 0.0
        return self.open and self._drawn_at is not None and event.time - waited > self._drawn_at

    def is_drawn(self) -> None:
        """It is drawn now, for the first time or after `asks_anew`."""
        if self._drawn_at is None and self.open and self.bar.size.height:
            self._drawn_at = time.monotonic()

    def asks_anew(self) -> None:
        """It asks something else now: takes nothing until that is drawn."""
        self._drawn_at = None
        self.refresh()

    def on_screen_resume(self) -> None:
        """It is shown again, after the help."""
        if self._drawn_at is not None:
            self.asks_anew()

    def answer(self, value: Any) -> None:
        """Gives the answer to the flow; a second answer is thrown away."""
        if self._reply is not None:
            reply, self._reply = self._reply, None
            reply(value)

    def ask_again(self, reply: Reply) -> None:
        """Takes another answer."""
        self._reply = reply
        self.asks_anew()

    def leave(self) -> None:
        """Goes back, without an answer."""
        self.answer(None)

    def action_interrupted(self) -> None:
        """^C: goes back, too, unless a screen says otherwise."""
        self.leave()

    def on_key(self, event: Key) -> None:
        """A key that no widget has used."""
        if self.takes(event) and self.pressed(event):
            event.stop()
            event.prevent_default()

    def pressed(self, event: Key) -> bool:
        """Do what the key does; False when it does nothing here."""
        action = self.keys().get(event.key)
        if action is not None:
            action()
        return action is not None

    def explain(self) -> None:
        """`?`: shows the help of the question, and the keys."""
        lines = [*flowing(self._help), ""] if self._help else []
        self.app.push_screen(PageScreen("Help", [*lines, *KEYS], self._explained))

    def _explained(self, _answer: object) -> None:
        self.app.pop_screen()


KEYS = (
    "Up, Down, PageUp, PageDown, Home, End move; Left and Right slide long rows.",
    "Enter      takes the row with the >, or the text as it is written",
    "a letter   takes the row that has it in brackets",
    "/          narrows a list as you type: rows that hold all of the words",
    "1, b or q  jump to the top and the bottom of a list that does not fit",
    "Esc        goes back one step; so does q where there is nothing to jump to",
    "^C         goes back too; while a restore runs it asks whether to stop it",
    "Tab        moves in the text above or below a list, if that does not fit",
    "? or F1    this help",
)


class PageScreen(QuestionScreen):
    """A text to read, until it is left."""

    sticky = False

    def __init__(self, title: str, lines: Iterable[str], reply: Reply, *, help_text: str = "", pulse: float | None = None) -> None:
        super().__init__(title, reply, help_text=help_text, pulse=pulse)
        self.text = TextView(lines, sticky=self.sticky)

    def body(self) -> list[Widget]:
        """The text, as high as the screen."""
        return [self.text]

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """The keys of a pager."""
        moves = reading_keys(self.text)
        leaves = dict.fromkeys(("enter", "escape", "q"), self.leave)
        helps = dict.fromkeys(("question_mark", "f1"), self.explain)
        return {**moves, "space": moves["pagedown"], "b": moves["end"], "1": moves["home"], **leaves, **helps}

    def lay_out(self, size: Size) -> None:
        """Shows the keys that move only where the text is longer than the screen."""
        long = self.text.lines_needed(size.width - PADDING) > size.height - _BARS
        self.hint.say(f"{_MOVING if long else ''}Enter or Esc back  ? help")


def reading_keys(text: TextView) -> Mapping[str, Callable[[], None]]:
    """Returns the keys that move in a text."""
    return {
        "up": lambda: text.scroll(-1),
        "down": lambda: text.scroll(1),
        "pageup": lambda: text.scroll(-text.page),
        "pagedown": lambda: text.scroll(text.page),
        "home": lambda: text.scroll(-text.lines_needed(text.size.width)),
        "end": lambda: text.scroll(text.lines_needed(text.size.width)),
    }
