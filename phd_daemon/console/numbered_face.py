"""The face of numbered lines on standard input and output: for a serial line, TERM=dumb, a pipe, and whoever likes it.

`numbered_list` says what an answer means. The end of the input (^D, a closed pipe) leaves every question, so the console ends.
A restore runs in a thread of its own, so that ^C can ask a question while it goes on. What was typed on a terminal before a
prompt is thrown away, and so is a ^C while a question is printed; the lines of a pipe are its answers.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

from phd_daemon.console.face import Choice, Face, Page, Question, WorkControl
from phd_daemon.console.numbered_list import (
    ESCAPE,
    Numbered,
    Said,
    View,
    first_view,
    lines_on_screen,
    numbered,
    page,
    proposal,
    understood,
)
from phd_daemon.console.watched import Watched
from phd_daemon.host.signals import deaf_to_interrupts, handled
from phd_daemon.show import output
from phd_daemon.show.live import redraw
from phd_daemon.show.table import width_of

T = TypeVar("T")
_AROUND_A_LIST = 7
_FASTER_THAN_TYPED = 0.04  # seconds
_LONGEST_PASTE = 1000  # times that pasted lines are thrown away
_LEAST_ROWS = 5
_LEAST_WIDTH = 20
_LIST_HELP = """\
Type a number or a letter and press Enter. Enter alone takes what stands in brackets; where nothing does, it goes back, as 0 does.
/words shows only rows that hold all of these words, / alone shows all again. In a long list n and p turn the page, b or q goes
to the bottom, t to the top; a number is that row on every page."""


def open_face(talk: Callable[[Face], None]) -> None:
    """Calls `talk` with the face; nothing has to be closed afterwards."""
    with contextlib.suppress(AttributeError, ValueError):  # standard input may be no text stream
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # bytes that are no text are a wrong answer
    talk(NumberedFace())


class _Presses:
    """Handles ^C while work goes on: remembers it. While a question is asked, the first ^C raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.pressed, self.asking = False, False

    def on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if self.asking:
            self.asking = False
            raise KeyboardInterrupt
        self.pressed = True


class NumberedFace:
    """The `Face` of numbered lines."""

    def choose(self, choice: Choice[T]) -> T | None:
        """Shows page after page until a row is chosen or the list is left."""
        width = output.width()
        above = lines_on_screen((choice.title, *choice.intro), width)
        height = max(_LEAST_ROWS, shutil.get_terminal_size().lines - _AROUND_A_LIST - above)
        view = first_view(choice, height, width)
        while True:
            shown = numbered(choice, view, height, width)
            self._head(choice.title, (*choice.intro, *page(shown, view)))
            said = self._answered(choice, shown, view)
            if isinstance(said, View):
                view = said
            elif said is None:
                return None
            else:
                return said[0]

    def ask(self, question: Question) -> str | None:
        """Asks for one line, again until it is right."""
        self._head(question.title, question.intro)
        while True:
            proposed = f" [{question.suggestion}]" if question.suggestion else ""
            answer = self._read(f"{question.prompt}{proposed} (^C goes back): ")
            if answer is None:
                return None
            if answer == "?":
                self._explain(question.help or "Type the answer and press Enter; Enter alone takes what stands in brackets.")
                continue
            answer = answer or question.suggestion
            if not answer:
                return None
            if (wrong := question.check(answer)) is None:
                return answer
            output.say(wrong)

    def confirm(self, title: str, lines: Sequence[str], *, default: bool) -> bool | None:
        """Asks for yes or no."""
        self._head(title, lines)
        while True:
            answer = self._read(f"{'[Y]es or no' if default else 'yes or [N]o'}, 0 back: ")
            if answer is None or answer.casefold() in ("0", "q"):
                return None
            if not answer or answer.casefold() in ("y", "yes", "n", "no"):
                return answer.casefold().startswith("y") if answer else default
            output.say("Type y or n; Enter alone takes what stands in brackets.")

    def show(self, text: Page) -> None:
        """Shows a text, a screen at a time."""
        height = max(_LEAST_ROWS, shutil.get_terminal_size().lines - 3)
        first, *others = list(_screens(text.lines, height, output.width())) or [[]]
        self._head(text.title, first)
        start = len(first)
        for lines in others:
            answer = self._read(f"-- {start} of {len(text.lines)} lines; Enter for more, q to leave: ")
            if answer is None or answer.casefold() in ("q", "0"):
                return
            output.say("\n".join(lines))
            start += len(lines)

    def wait(self, message: str, work: Callable[[], T]) -> T:
        """Shows the message, then does the work."""
        output.say(f"{message} ...")
        return work()

    def follow(self, title: str, lines: Iterator[str]) -> None:
        """Shows lines until they end or ^C is pressed."""
        self._head(title, ("^C leaves; what is shown goes on.",))
        try:
            for line in lines:
                output.say(line)
        except KeyboardInterrupt:
            output.say()

    def watch(self, title: str, work: Callable[[WorkControl], T]) -> T:
        """Runs the work in a thread of its own, so that a question can be asked while it goes on."""
        self._head(title, ("^C asks whether to stop.",))
        presses = _Presses()
        with handled((signal.SIGINT,), presses.on_interrupt):
            watched = Watched(work, redraw=redraw if output.on_a_terminal() else None, say=output.say)
            while not watched.ended(within=0.1):
                if presses.pressed and not watched.asked:
                    presses.pressed = False
                    self._ask_to_stop(watched, presses)
        return watched.result()

    def lend(self, work: Callable[[], T]) -> T:
        """Runs the work; there is nothing to suspend."""
        return work()

    def _answered(self, choice: Choice[T], shown: Numbered[T], view: View) -> tuple[T] | View | None:
        proposed = f" [{label}]" if (label := proposal(shown, view)) else ""
        while True:
            answer = self._read(f"Your choice{proposed}, 0 back, ? help: ")
            said = Said.BACK if answer is None else understood(shown, view, answer)
            if said is Said.BACK:
                return None
            if isinstance(said, View):
                return said
            if said is Said.HELP:
                self._explain(choice.help, _LIST_HELP)
            elif isinstance(said, str):
                output.say(said)
            elif not isinstance(said, Said):
                return (said.value,)

    def _ask_to_stop(self, watched: Watched[T], presses: _Presses) -> None:
        """Enter means no; a second ^C and the end of the input mean yes: there must be a way to stop."""
        watched.pause()
        output.say()
        try:
            presses.pressed = False
            self._prompt("Stop it? Unfinished files are removed. yes or [N]o: ")
            presses.asking = True
            answer = None if presses.pressed else self._line()  # pressed as soon as the question was there
            presses.asking = False
        except KeyboardInterrupt:
            answer = None
        if answer is None or answer.casefold().startswith("y"):
            watched.ask()
        output.say("stopping ..." if watched.asked else "It goes on.")
        watched.go_on()

    def _head(self, title: str, lines: Sequence[str]) -> None:
        with deaf_to_interrupts():
            _forget_the_rest_of_a_paste()
            room = shutil.get_terminal_size().columns
            output.say(f"\n{title}\n{'-' * min(width_of(output.harmless(title)), room)}")
            if lines:
                output.say("\n".join(lines))

    def _explain(self, *texts: str) -> None:
        """Shows help texts, broken between words at the width of the terminal."""
        width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns - 1)
        for text in filter(None, texts):
            for paragraph in text.split("\n\n"):
                output.say(textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False))

    def _read(self, prompt: str) -> str | None:
        """Returns one answer; None for Esc, ^C and the end of the input."""
        with deaf_to_interrupts():
            self._prompt(prompt)
        try:
            answer = self._line()
        except KeyboardInterrupt:
            output.say()
            return None
        return None if answer is None or answer.startswith(ESCAPE) else answer

    def _prompt(self, prompt: str) -> None:
        _forget_what_was_typed()
        output.say(prompt, end="")

    def _line(self) -> str | None:
        try:
            text = sys.stdin.readline()
        except OSError:  # a terminal that was closed
            text = ""
        if not text:
            output.say()
            return None
        return text.strip()


def _screens(lines: Sequence[str], height: int, width: int) -> Iterator[list[str]]:
    """Yields as many lines at once as a terminal of this size shows, which folds the long ones."""
    piece: list[str] = []
    room = height
    for line in lines:
        takes = lines_on_screen([line], width)
        if piece and takes > room:
            yield piece
            piece, room = [], height
        piece.append(line)
        room -= takes
    if piece:
        yield piece


def _forget_what_was_typed() -> None:
    """Throws away keys that were pressed until now, so that they do not answer a question that nobody has seen.

    A slow line is waited for: what is printed above the prompt has been seen then.
    """
    with contextlib.suppress(AttributeError, ValueError, OSError, termios.error):  # no terminal: a pipe's lines are its answers
        termios.tcdrain(sys.stdout.fileno())
    with contextlib.suppress(AttributeError, ValueError, OSError, termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _forget_the_rest_of_a_paste() -> None:
    """Throws away lines that follow each other faster than a person types: a paste, or a key that is held down."""
    with contextlib.suppress(AttributeError, ValueError, OSError, termios.error):
        keys = sys.stdin.fileno()
        for _ in range(_LONGEST_PASTE):
            termios.tcflush(keys, termios.TCIFLUSH)
            if not select.select([keys], [], [], _FASTER_THAN_TYPED)[0]:
                return
