"""The Textual application: shows what the thread of the flow asks, and releases that thread when the application ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver
from textual.screen import Screen

from phd_daemon.console.screen.ask import AskScreen
from phd_daemon.console.screen.question_screen import QuestionScreen, Reply
from phd_daemon.host.signals import deaf_to_interrupts

PULSE = 0.2
"""Seconds between two updates of a log or of the progress of a restore."""

FASTER_THAN_TYPED = 0.05
"""Seconds."""


class ConsoleApp(App[None], inherit_bindings=False):
    """Runs `talk` in a thread of its own, until it returns."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []
    TITLE = "phd"
    # Styles but no colours: those of the terminal stay, and a terminal without colours shows the same.
    CSS = """
    Screen { layout: vertical; overflow: hidden; background: ansi_default; color: ansi_default; }
    Bar { height: 1; width: 100%; }
    #title { height: auto; max-height: 3; }
    #prompt { margin: 1 0 0 0; }
    TextView, RowList { width: 100%; height: 1fr; min-height: 0; padding: 0 1; }
    AnswerField { width: 100%; height: 1; margin: 0 0 1 0; border: none; padding: 0 1; }
    AnswerField { background: ansi_default; color: ansi_default; }
    .low #prompt, .low AnswerField { margin: 0; }
    #keys { dock: bottom; }
    """

    def __init__(self, talk: Callable[[ConsoleApp], object], *, pulse: float = PULSE, driver: type[Driver] | None = None) -> None:
        super().__init__(driver_class=driver, ansi_color=True)
        self.theme = "ansi-dark"
        self.animation_level = "none"
        self.pulse = pulse
        self.error: BaseException | None = None
        self.started = False
        self._talk = talk
        self._lock = threading.Lock()
        self._gone = False
        self._refused_at = 0.0
        self._release: Reply | None = None
        self._flow = threading.Thread(target=self._run_flow, name="flow", daemon=True)

    async def on_event(self, event: events.Event) -> None:
        """Throws away what was typed or pasted before the question was drawn: it was meant for something else."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            screen = self.screen
            if self._goes_on(event) or not (isinstance(screen, QuestionScreen) and screen.takes(event)):
                self._refused_at = event.time
                return
        await super().on_event(event)

    def _goes_on(self, event: events.Event) -> bool:
        """Whether it follows what was thrown away faster than a person types: the rest of a paste, or a key that is held down."""
        return not self.is_headless and event.time - self._refused_at < FASTER_THAN_TYPED

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Draws. What is typed from now on may answer the question that is drawn."""
        if isinstance(screen, QuestionScreen) and renderable is not None:
            screen.is_drawn()
        super()._display(screen, renderable)

    def on_mount(self) -> None:
        """Starts the flow: the terminal can be drawn on now."""
        self.started = True
        self._flow.start()

    def _run_flow(self) -> None:
        try:
            self._talk(self)
        except BaseException as error:  # noqa: BLE001  carried to the main thread, which raises it there
            self.error = error
        self.call_later(self.exit)

    def put(self, make: Callable[[], QuestionScreen], release: Reply) -> None:
        """Shows this next; for any thread. `release(None)` is called when the console ends before it was answered."""
        self._post(release, self._put, make)

    def mend(self, reason: str, reply: Reply) -> None:
        """Shows why the last answer was refused, below the answer, and takes another."""
        self._post(reply, self._refused, reason, reply)

    def lend(self, work: Callable[[], None], release: Reply) -> None:
        """Runs `work`, which raises nothing, with the terminal as it was before; nothing is drawn meanwhile."""
        self._post(release, self._lend, work)

    def _post(self, release: Reply, act: Callable[..., object], *arguments: Any) -> None:
        with self._lock:
            if not self._gone:
                self._release = release
                self.call_later(act, *arguments)
                return
        release(None)

    def release(self) -> None:
        """Ends the conversation: the question on the screen is answered with None, and so is every one after it."""
        with self._lock:
            self._gone = True
            reply, self._release = self._release, None
        if reply is not None:
            reply(None)

    def join(self) -> None:
        """Waits until the flow has ended; a restore stops at its next block."""
        self.release()
        if self.started:
            self._flow.join()

    async def _put(self, make: Callable[[], QuestionScreen]) -> None:
        """Removes what is shown over the last question, and replaces that question."""
        while len(self.screen_stack) > 2:
            await self.pop_screen()
        if len(self.screen_stack) > 1:
            await self.switch_screen(make())
        else:
            await self.push_screen(make())

    def _refused(self, reason: str, reply: Reply) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, AskScreen):
                screen.refused(reason, reply)

    def _lend(self, work: Callable[[], None]) -> None:
        """In the app's thread, so that nothing is drawn until the work ends."""
        if self.is_headless:  # there is no terminal to lend
            work()
            return
        with deaf_to_interrupts(), self.suspend():
            work()
