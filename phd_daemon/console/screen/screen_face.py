"""The `Face` of the screen. Its methods are called in the thread of the flow, and wait there for the answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from queue import SimpleQueue
from typing import Any, TypeVar

from phd_daemon.console.face import WAITED_FOR, Choice, Page, Question, Row, WorkControl
from phd_daemon.console.screen.app import ConsoleApp
from phd_daemon.console.screen.ask import AskScreen
from phd_daemon.console.screen.choose import ChoiceScreen
from phd_daemon.console.screen.question_screen import PageScreen, QuestionScreen, Reply
from phd_daemon.console.screen.work import FollowScreen, LogFeed, WaitScreen, WatchScreen, Work
from restore_core.errors import PhdError

T = TypeVar("T")
_ANEW_EVERY = 1.0


class ScreenFace:
    """Shows one question at a time, each as a screen of the app."""

    def __init__(self, app: ConsoleApp) -> None:
        self._app = app

    def choose(self, choice: Choice[T]) -> T | None:
        """Returns the value of the row that was chosen; None to go back."""
        anew, newest, answered = choice.anew, deque[Choice[T]](maxlen=1), threading.Event()
        if anew is not None:
            threading.Thread(target=lambda: _renew(anew, newest, answered), name="anew", daemon=True).start()
        try:
            chosen: T | None = self._ask(lambda reply: ChoiceScreen(choice, reply, newest=newest, pulse=self._app.pulse))
        finally:
            answered.set()
        return chosen

    def ask(self, question: Question) -> str | None:
        """Returns the answer. It is checked in this thread and not in that of the screen: a check may read a slow disk."""
        answers: SimpleQueue[str | None] = SimpleQueue()
        self._app.put(lambda: AskScreen(question, answers.put), answers.put)
        while (answer := answers.get()) is not None:
            if (refusal := question.check(answer)) is None:
                return answer
            self._app.mend(refusal, answers.put)
        return None

    def confirm(self, title: str, lines: Sequence[str], *, default: bool) -> bool | None:
        """Returns yes or no; `default` is proposed."""
        rows = (Row(cells=("Yes",), value=True, key="y"), Row(cells=("No",), value=False, key="n"))
        return self.choose(Choice(title=title, intro=tuple(lines), rows=rows, start=0 if default else 1))

    def show(self, page: Page) -> None:
        """Shows a text until it is left."""
        self._ask(lambda reply: PageScreen(page.title, page.lines, reply, help_text=page.help))

    def wait(self, message: str, work: Callable[[], T]) -> T:
        """Runs `work` in a thread of its own. ^C raises `KeyboardInterrupt` at once, and the work goes on unwatched."""
        future: Future[T] = Future()
        pulse = self._app.pulse
        self._app.put(lambda: WaitScreen(message, lambda _: future.cancel(), pulse=pulse), lambda _: future.cancel())
        threading.Thread(target=lambda: _settle(future, work), name=WAITED_FOR, daemon=True).start()
        return _result(future)

    def follow(self, title: str, lines: Iterator[str]) -> None:
        """Shows lines as they come. A thread of its own reads them, and stops at the next line after the person has left."""
        feed, answers, future = LogFeed(), SimpleQueue[None](), Future[None]()
        future.add_done_callback(lambda ended: answers.put(None) if ended.exception() else None)
        threading.Thread(target=lambda: _settle(future, lambda: _pour(lines, feed)), name="follow", daemon=True).start()
        self._app.put(lambda: FollowScreen(title, feed, answers.put, pulse=self._app.pulse), answers.put)
        answers.get()
        feed.left = True
        if future.done():
            future.result()

    def watch(self, title: str, work: Callable[[WorkControl], T]) -> T:
        """Runs `work` in the thread of the flow; the screen reads what it reports."""
        stop = Work()
        self._app.put(lambda: WatchScreen(title, stop, pulse=self._app.pulse), stop.stop)
        return work(stop)

    def lend(self, work: Callable[[], T]) -> T:
        """Runs `work` in the thread of the app, which draws nothing meanwhile."""
        future: Future[T] = Future()
        self._app.lend(lambda: _settle(future, work), lambda _: future.cancel())
        return _result(future)

    def _ask(self, make: Callable[[Reply], QuestionScreen]) -> Any:
        answers: SimpleQueue[Any] = SimpleQueue()
        self._app.put(lambda: make(answers.put), answers.put)
        return answers.get()


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    """Runs the work in this thread and puts its result or its error into the future."""
    with contextlib.suppress(InvalidStateError):  # the future was cancelled: the person has left
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised where the result is asked for
            future.set_exception(error)


def _result(future: Future[T]) -> T:
    """Waits; returns what the work returned, raises what it raised, or `KeyboardInterrupt` when the person left."""
    try:
        return future.result()
    except CancelledError:
        raise KeyboardInterrupt from None


def _pour(lines: Iterator[str], feed: LogFeed) -> None:
    try:
        for line in lines:
            if feed.left:
                return
            feed.lines.append(line)
    finally:
        feed.ended = True


def _renew(anew: Callable[[], Choice[T]], newest: deque[Choice[T]], answered: threading.Event) -> None:
    """Makes the list anew every second until it was answered; errors are passed over.

    A long list is made less often. Drawing it costs half as much again, and both together take a fifth of a processor at most.
    """
    pause = _ANEW_EVERY
    while not answered.wait(pause):
        began = time.thread_time()
        with contextlib.suppress(PhdError, OSError):
            newest.append(anew())
        pause = max(_ANEW_EVERY, 8 * (time.thread_time() - began))
