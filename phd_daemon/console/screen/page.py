"""Texts to read: a page, and a log that is still being written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from textual.geometry import Size
from textual.widget import Widget

from phd_daemon.console.screen.asked import PADDING, Asked, Reply
from phd_daemon.console.screen.text_view import TextView

_BARS = 2  # the title, the keys
_MOVING = "Up/Down/Space move  1 top  b bottom  "


class PageScreen(Asked):
    """A text, until it is left."""

    def __init__(self, title: str, lines: Iterable[str], reply: Reply, *, help_text: str = "", sticky: bool = False) -> None:
        super().__init__(title, reply, help_text=help_text)
        self.text = TextView(lines, sticky=sticky)

    def body(self) -> list[Widget]:
        """The text, as high as the screen."""
        return [self.text]

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Those of a pager."""
        text = self.text
        return {
            **reading_keys(text),
            "space": lambda: text.scroll(text.page),
            "b": lambda: text.scroll(text.lines_needed(text.size.width)),
            "1": lambda: text.scroll(-text.lines_needed(text.size.width)),
            "enter": self.leave,
            "escape": self.leave,
            "q": self.leave,
            "question_mark": self.explain,
            "f1": self.explain,
        }

    def lay_out(self, size: Size) -> None:
        """Only a text longer than the screen can be moved in."""
        long = self.text.lines_needed(size.width - PADDING) > size.height - _BARS
        self.hint.say(f"{_MOVING if long else ''}Enter or Esc back  ? help")


def reading_keys(text: TextView) -> Mapping[str, Callable[[], None]]:
    """Moving in a text."""
    return {
        "up": lambda: text.scroll(-1),
        "down": lambda: text.scroll(1),
        "pageup": lambda: text.scroll(-text.page),
        "pagedown": lambda: text.scroll(text.page),
        "home": lambda: text.scroll(-text.lines_needed(text.size.width)),
        "end": lambda: text.scroll(text.lines_needed(text.size.width)),
    }


class Feed:
    """Lines on their way from the thread that reads them to the screen."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.ended = False
        self.left = False


class FollowScreen(PageScreen):
    """A log as it grows. It stays at the end until somebody scrolls up, and again once they are back there."""

    def __init__(self, title: str, feed: Feed, reply: Reply, *, pulse: float) -> None:
        super().__init__(title, (), reply, sticky=True)
        self._feed, self._pulse = feed, pulse
        self._told: bool | None = None

    def on_mount(self) -> None:
        """Look for new lines, again and again."""
        self.set_interval(self._pulse, self.look)
        self.look()

    def look(self) -> None:
        """Take what has come."""
        ended = self._feed.ended  # before the lines: the last ones come first
        lines = self._feed.lines
        if lines:
            self.text.add([lines.popleft() for _ in range(len(lines))])
        if ended is not self._told:
            self._told = ended
            self.lay_out(self.size)

    def lay_out(self, size: Size) -> None:
        """The keys are the same at every size."""
        del size
        state = "The log ended.  " if self._told else "Live.  "
        self.hint.say(f"{state}Up/Down move  1 top  b newest  q or ^C leaves the viewer only")
