"""The `Face` that flows see. Its methods are called in the flow's thread and wait there for the person."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from phd_daemon.console.face import WAITED_FOR, Choice, Page, Question, Row, Stop
from phd_daemon.console.screen.app import ConsoleApp
from phd_daemon.console.screen.ask import AskScreen
from phd_daemon.console.screen.asked import Asked, PageScreen, Reply
from phd_daemon.console.screen.choose import ChoiceScreen
from phd_daemon.console.screen.work import Feed, FollowScreen, WaitScreen, WatchScreen, Work
from restore_core.errors import PhdError

T = TypeVar("T")
_ANEW_EVERY = 1.0


class ScreenFace:
    """One question at a time, each a screen of the app."""

    def __init__(self, app: ConsoleApp) -> None:
        self._app = app

    def choose(self, choice: Choice[T]) -> T | None:
        """The value of the row that was chosen; None to go back."""
        anew, newest, answered = choice.anew, deque[Choice[T]](maxlen=1), threading.Event()
        if anew is not None:
            threading.Thread(target=lambda: _renew(anew, newest, answered), name="anew", daemon=True).start()
        try:
            chosen: T | None = self._ask(lambda reply: ChoiceScreen(choice, reply, newest=newest, pulse=self._app.pulse))
        finally:
            answered.set()
        return chosen

    def ask(self, question: Question) -> str | None:
        """The answer, checked here and not where the screen is drawn: a check may look at a slow disk."""
        answers: SimpleQueue[str | None] = SimpleQueue()
        self._app.put(lambda: AskScreen(question, answers.put), answers.put)
        while (answer := answers.get()) is not None:
            if (refusal := question.check(answer)) is None:
                return answer
            self._app.mend(refusal, answers.put)
        return None

    def confirm(self, title: str, lines: Sequence[str], *, default: bool) -> bool | None:
        """Yes or no, standing on `default`."""
        rows = (Row(cells=("Yes",), value=True, key="y"), Row(cells=("No",), value=False, key="n"))
        return self.choose(Choice(title=title, intro=tuple(lines), rows=rows, start=0 if default else 1))

    def show(self, page: Page) -> None:
        """A text, until it is left."""
        self._ask(lambda reply: PageScreen(page.title, page.lines, reply, help_text=page.help))

    def wait(self, message: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread of its own, so that ^C leaves at once: `KeyboardInterrupt`, and the work is let go."""
        run = Run(work)
        told: SimpleQueue[Run[T] | None] = SimpleQueue()
        self._app.put(lambda: WaitScreen(message, told.put, pulse=self._app.pulse), told.put)
        threading.Thread(target=lambda: told.put(run.run()), name=WAITED_FOR, daemon=True).start()
        if told.get() is None:
            raise KeyboardInterrupt
        return run.result()

    def follow(self, title: str, lines: Iterator[str]) -> None:
        """Lines as they come, read in a thread of its own: it looks whether anybody still wants them at each line."""
        feed, answers = Feed(), SimpleQueue[None]()
        run = Run(lambda: _pour(lines, feed))

        def read() -> None:
            if run.run().failed:
                answers.put(None)

        threading.Thread(target=read, name="follow", daemon=True).start()
        self._app.put(lambda: FollowScreen(title, feed, answers.put, pulse=self._app.pulse), answers.put)
        answers.get()
        feed.left = True
        if run.failed:
            run.result()

    def watch(self, title: str, work: Callable[[Stop], T]) -> T:
        """Run `work` in the flow's own thread; the screen reads what it says."""
        stop = Work()
        self._app.put(lambda: WatchScreen(title, stop, pulse=self._app.pulse), stop.stop)
        return work(stop)

    def lend(self, work: Callable[[], T]) -> T:
        """Run `work` in the app's thread, which draws nothing while the terminal is not ours."""
        run = Run(work)
        told: SimpleQueue[Run[T] | None] = SimpleQueue()
        self._app.lend(lambda: told.put(run.run()), told.put)
        if told.get() is None:
            raise KeyboardInterrupt
        return run.result()

    def _ask(self, make: Callable[[Reply], Asked]) -> Any:
        answers: SimpleQueue[Any] = SimpleQueue()
        self._app.put(lambda: make(answers.put), answers.put)
        return answers.get()


class Run(Generic[T]):
    """Work that is done in one thread, and whose result or error belongs to another."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> Run[T]:
        """Do it; raises nothing."""
        try:
            self._value.append(self._work())
        except BaseException as error:  # noqa: BLE001  raised where the result is asked for
            self._error = error
        return self

    @property
    def failed(self) -> bool:
        """It has ended, with an error."""
        return self._error is not None

    def result(self) -> T:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value[0]


def _pour(lines: Iterator[str], feed: Feed) -> None:
    try:
        for line in lines:
            if feed.left:
                return
            feed.lines.append(line)
    finally:
        feed.ended = True


def _renew(anew: Callable[[], Choice[T]], newest: deque[Choice[T]], answered: threading.Event) -> None:
    """Lay a new list out for the screen every second, until the list was answered; one that cannot be had is left out."""
    while not answered.wait(_ANEW_EVERY):
        with contextlib.suppress(PhdError, OSError):
            newest.append(anew())
