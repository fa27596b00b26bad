"""One session at the terminal, from opening the screen to giving it back; a closed window and `kill` end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from phd_daemon.console.face import NoScreen
from phd_daemon.console.screen.app import ConsoleApp
from phd_daemon.console.screen.driver import TerminalDriver
from phd_daemon.console.screen.screen_face import ScreenFace
from restore_core.errors import Stopped

if TYPE_CHECKING:
    from phd_daemon.console.face import Face

_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


def open_face(talk: Callable[[Face], None]) -> None:
    """Opens the screen, calls `talk` with its face, closes it. Raises what `talk` raises; `NoScreen` if it does not open."""
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        raise NoScreen("standard error is no terminal, and the screen is drawn there")
    app = ConsoleApp(lambda app: talk(ScreenFace(app)), driver=TerminalDriver)
    try:
        asyncio.run(_show(app))
    except OSError as error:
        if not app.started:
            raise NoScreen(f"the screen does not open: {error}") from error
        raise
    finally:
        app.join()
    if not app.started:
        raise NoScreen("the screen did not open")
    if app.error is not None:
        raise app.error
    if app.return_code:
        raise RuntimeError("the screen broke; its own words stand above")


async def _show(app: ConsoleApp) -> None:
    with _answering_signals(app):
        await app.run_async(mouse=False)


@contextmanager
def _answering_signals(app: ConsoleApp) -> Iterator[None]:
    """A signal leaves every question and stops the restore that is watched; who listened before, hears it too."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def told(number: int, frame: FrameType | None = None) -> None:
        earlier = before[signal.Signals(number)]
        if callable(earlier) and earlier is not signal.default_int_handler:
            with contextlib.suppress(Stopped):  # to raise would break the screen: the flow is ended by the answers it gets
                earlier(number, frame)
        loop.call_soon_threadsafe(app.let_go)

    for number in _SIGNALS:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
