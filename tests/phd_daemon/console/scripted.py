"""A face that answers by itself: what a flow asks is compared with a script, and remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from phd_daemon.console.face import Choice, Page, Question, WorkControl

T = TypeVar("T")
ENTER, BACK = "", None
Answer = str | None


class Scripted:
    """`answers` are (a piece of the title, the answer): a key or a piece of a row, a text, y or n; ENTER takes what is proposed.

    Every question must be the next one of the script. `seen` holds titles, rows and texts as they came.
    """

    def __init__(self, *answers: tuple[str, Answer]) -> None:
        self.answers = list(answers)
        self.seen: list[str] = []
        self.stop_at_once = False

    def choose(self, choice: Choice[T]) -> T | None:
        """Take the row that the script names."""
        self.seen += [choice.title, *choice.intro, *(" ".join((*row.cells, row.refused)) for row in choice.rows)]
        answer = self._next(choice.title)
        if answer is BACK:
            return None
        if answer == ENTER:
            assert choice.start is not None, f"{choice.title}: nothing is proposed"
            row = choice.rows[choice.start]
        else:
            named = [row for row in choice.rows if row.key == answer]
            row = next(iter(named or [row for row in choice.rows if (answer or "") in " ".join(row.cells)]))
        assert not row.refused, f"{choice.title}: {answer} cannot be chosen: {row.refused}"
        return row.value

    def ask(self, question: Question) -> str | None:
        """Type; wrong answers are followed by the next one of the script."""
        self.seen += [question.title, *question.intro]
        while (answer := self._next(question.title)) is not None:
            answer = answer or question.suggestion
            if (wrong := question.check(answer)) is None:
                return answer
            self.seen.append(wrong)
        return None

    def confirm(self, title: str, lines: Sequence[str], *, default: bool) -> bool | None:
        """Yes or no."""
        self.seen += [title, *lines]
        answer = self._next(title)
        return None if answer is BACK else default if answer == ENTER else answer == "y"

    def show(self, page: Page) -> None:
        """Read it."""
        self.seen += [page.title, *page.lines]

    def wait(self, message: str, work: Callable[[], T]) -> T:
        """Do it."""
        self.seen.append(message)
        return work()

    def follow(self, title: str, lines: Iterator[str]) -> None:
        """Read to the end."""
        self.seen += [title, *lines]

    def watch(self, title: str, work: Callable[[WorkControl], T]) -> T:
        """Do it, or stop it at once."""
        self.seen.append(title)
        return work(_Stop(self))

    def lend(self, work: Callable[[], T]) -> T:
        """Nothing to lend."""
        return work()

    def text(self) -> str:
        """All that was seen."""
        return "\n".join(self.seen)

    def _next(self, title: str) -> Answer:
        assert self.answers, f"asked {title!r} beyond the script; seen:\n{self.text()}"
        expected, answer = self.answers.pop(0)
        assert expected in title, f"asked {title!r}, the script has {expected!r}; seen:\n{self.text()}"
        return answer


class _Stop:
    def __init__(self, face: Scripted) -> None:
        self._face, self._lock = face, threading.Lock()

    def note(self, line: str) -> None:
        with self._lock:
            self._face.seen.append(line)

    report = note

    @property
    def asked(self) -> bool:
        return self._face.stop_at_once
