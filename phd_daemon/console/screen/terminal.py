"""Opens the screen on the terminal and closes it again; a closed window and `kill` end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver

from phd_daemon.console.face import Face, NoScreen
from phd_daemon.console.screen.app import ConsoleApp
from phd_daemon.console.screen.screen_face import ScreenFace
from phd_daemon.host.signals import handled
from phd_daemon.show import output
from restore_core.errors import Stopped


class TerminalDriver(LinuxDriver):
    """The driver, with a file whose writes never fail."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._file: Any = Unbroken(sys.__stderr__ or sys.stderr)  # where Textual draws


class Unbroken:
    """A file of a terminal. After a write has failed, everything goes to /dev/null, also what is still in buffers."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Writes, or throws the text away."""
        try:
            self._file.write(text)
        except OSError:
            output.drop_output(self._file.fileno())

    def flush(self) -> None:
        """Flushes, or throws the buffer away."""
        try:
            self._file.flush()
        except OSError:
            output.drop_output(self._file.fileno())

    def fileno(self) -> int:
        """The file descriptor of the terminal."""
        return self._file.fileno()


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
    """Runs the app. A signal leaves every question and stops the restore that is watched; the earlier handler is called, too."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def told(number: int, frame: FrameType | None = None) -> None:
        earlier = before[signal.Signals(number)]
        if callable(earlier) and earlier is not signal.default_int_handler:
            with contextlib.suppress(Stopped):  # raised here it would break the screen; the flow ends by the answers it gets
                earlier(number, frame)
        loop.call_soon_threadsafe(app.release)

    with handled(_SIGNALS, told):
        await app.run_async(mouse=False)
