"""The application: it holds the terminal, shows what the flow's thread asks, and lets go of that thread when it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver

from phd_daemon.console.screen.ask import AskScreen
from phd_daemon.console.screen.asked import Asked, Reply

PULSE = 0.2
"""Seconds between two looks at a log or at the progress of a restore."""


class ConsoleApp(App[None], inherit_bindings=False):
    """Runs `talk` with a face in a thread of its own, until it returns."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []
    TITLE = "phd"
    # Styles and no colours: the terminal's own stay, and one without any shows the same.
    CSS = """
    Screen { layout: vertical; overflow: hidden; background: ansi_default; color: ansi_default; }
    Bar { height: 1; width: 100%; }
    #title { height: auto; max-height: 3; }
    #prompt { margin: 1 0 0 0; }
    TextView, RowList { width: 100%; height: 1fr; min-height: 0; padding: 0 1; }
    Line { width: 100%; height: 1; margin: 0 0 1 0; border: none; padding: 0 1; background: ansi_default; color: ansi_default; }
    .low #prompt, .low Line { margin: 0; }
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
        self._let_go: Reply | None = None
        self._flow = threading.Thread(target=self._run_flow, name="flow", daemon=True)

    def on_mount(self) -> None:
        """The terminal is ours: let the flow begin."""
        self.started = True
        self._flow.start()

    def _run_flow(self) -> None:
        try:
            self._talk(self)
        except BaseException as error:  # noqa: BLE001  carried to the main thread, which raises it there
            self.error = error
        self.call_later(self.exit)

    def put(self, make: Callable[[], Asked], let_go: Reply) -> None:
        """Show this next. `let_go(None)` is called when the console ends before it was answered; by any thread."""
        self._post(let_go, self._put, make)

    def mend(self, reason: str, reply: Reply) -> None:
        """The last answer was refused: say so in the place where it was written, and take another."""
        self._post(reply, self._refused, reason, reply)

    def lend(self, work: Callable[[], None], let_go: Reply) -> None:
        """Run `work`, which raises nothing, with the terminal as it was before; nothing is drawn meanwhile."""
        self._post(let_go, self._lend, work)

    def _post(self, let_go: Reply, act: Callable[..., object], *arguments: Any) -> None:
        with self._lock:
            if not self._gone:
                self._let_go = let_go
                self.call_later(act, *arguments)
                return
        let_go(None)

    def let_go(self) -> None:
        """End: the question on the screen is left, and so is every one after it."""
        with self._lock:
            self._gone = True
            reply, self._let_go = self._let_go, None
        if reply is not None:
            reply(None)

    def join(self) -> None:
        """Wait until the flow has ended, which may be a restore that stops at its next block."""
        self.let_go()
        if self.started:
            self._flow.join()

    async def _put(self, make: Callable[[], Asked]) -> None:
        """Takes away what stands over the last question, and replaces that."""
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


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """^C is for the editor. Not ignored but handled by nothing, so that the editor itself starts with the default."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
