"""Screens for what goes on while somebody looks: work with a message or its progress, and a log that grows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from textual.geometry import Size
from textual.widget import Widget

from phd_daemon.console.screen.question_screen import PADDING, Bar, PageScreen, QuestionScreen, Reply
from phd_daemon.console.screen.text_view import TextView
from phd_daemon.show.progress import shortened

_BARS = 3  # the title, the sign of life, the keys
_SIGNS = "|/-\\"


class Work:
    """The `WorkControl` of a screen: keeps what the work reports until the screen reads it, and the wish to stop."""

    def __init__(self) -> None:
        self.notes: deque[str] = deque()
        self.line = ""
        self._stop = threading.Event()

    def note(self, line: str) -> None:
        """Keeps a line that stays."""
        self.notes.append(line)

    def report(self, line: str) -> None:
        """Keeps a line that replaces the last one."""
        self.line = line

    @property
    def asked(self) -> bool:
        """Whether the person asked to stop."""
        return self._stop.is_set()

    def stop(self, _answer: object = None) -> None:
        """Asks the work to stop."""
        self._stop.set()


class WaitScreen(QuestionScreen):
    """A message, and a moving sign with the seconds. The person may leave; the work goes on unwatched then."""

    def __init__(self, message: str, reply: Reply, *, pulse: float) -> None:
        super().__init__("Please wait", reply, pulse=pulse)
        self.text = TextView([message])
        self.sign = Bar("", "sign")
        self._every, self._beats = pulse, 0

    def body(self) -> list[Widget]:
        """The message and the moving sign."""
        return [self.text, self.sign]

    def lay_out(self, size: Size) -> None:
        """The moving sign is right below the message."""
        width, height = size
        self.text.styles.height = min(self.text.lines_needed(width - PADDING), height - _BARS)

    def look(self) -> None:
        """Moves the sign."""
        self.hint.say("Esc or ^C back, without waiting for it")
        self.sign.say(f"{_SIGNS[self._beats % len(_SIGNS)]} {int(self._beats * self._every)} s")
        self._beats += 1

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Only Esc, which leaves."""
        return {"escape": self.leave}


class WatchScreen(QuestionScreen):
    """Progress as it is reported. ^C asks whether to stop; after a yes the screen waits until the work has ended."""

    def __init__(self, title: str, work: Work, *, pulse: float) -> None:
        super().__init__(title, work.stop, pulse=pulse)
        self.work = work
        self.text = TextView((), sticky=True)
        self.line = TextView(())
        self.sign = Bar("", "sign")
        self._beats, self._asking = 0, False

    def body(self) -> list[Widget]:
        """The notes, the progress below them, and the question."""
        return [self.text, self.line, self.sign]

    def look(self) -> None:
        """Shows what the work has reported since the last time."""
        notes = self.work.notes
        if notes:
            self.text.add([notes.popleft() for _ in range(len(notes))])
        self.lay_out(self.app.size)
        self._beats += 1
        life = _SIGNS[self._beats % len(_SIGNS)]
        if not self.open:
            self.sign.say(f"{life} Stopping; unfinished files are removed.")
            self.hint.say("")
        elif self._asking:
            self.sign.say(f"{life} Stop this?  (Y) stops it, (N) or Enter goes on")
            self.hint.say("Y stop  N, Enter or Esc go on")
        else:
            self.sign.say(life)
            self.hint.say("^C stop  (this window must stay open until the end)")

    def lay_out(self, size: Size) -> None:
        """The progress is right below the notes, of which the last ones are seen."""
        width, height = size
        self.line.show([shortened(self.work.line, width - PADDING)])
        line = self.line.lines_needed(width - PADDING)
        self.line.styles.height = line
        self.line.styles.margin = (1, 0)
        self.text.styles.height = min(self.text.lines_needed(width - PADDING), max(0, height - _BARS - 2 - line))

    def action_interrupted(self) -> None:
        """^C asks first."""
        self._ask(True)

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Esc asks; while the question is asked, the answers."""
        if not self._asking:
            return {"escape": lambda: self._ask(True)}
        go_on = {key: lambda: self._ask(False) for key in ("n", "enter", "escape")}
        return {**go_on, "y": self._stop}

    def _ask(self, asking: bool) -> None:
        self._asking = asking
        self.look()
        self.asks_anew()

    def _stop(self) -> None:
        self.answer(None)
        self.look()


class LogFeed:
    """Lines from the thread that reads them, kept until the screen shows them."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.ended = False
        self.left = False


class FollowScreen(PageScreen):
    """A log as it grows. The end is shown until somebody scrolls up, and again once they are back there."""

    sticky = True

    def __init__(self, title: str, feed: LogFeed, reply: Reply, *, pulse: float) -> None:
        super().__init__(title, (), reply, pulse=pulse)
        self._feed = feed
        self._told: bool | None = None

    def look(self) -> None:
        """Shows the lines that have come."""
        ended = self._feed.ended  # before the lines: the last ones come first
        lines = self._feed.lines
        if lines:
            self.text.add([lines.popleft() for _ in range(len(lines))])
        if ended is not self._told:
            self._told = ended
            self.lay_out(self.size)

    def lay_out(self, size: Size) -> None:
        """Shows the keys, which are the same at every size."""
        del size
        state = "The log ended.  " if self._told else "Live.  "
        self.hint.say(f"{state}Up/Down move  1 top  b newest  q or ^C leaves the viewer only")
