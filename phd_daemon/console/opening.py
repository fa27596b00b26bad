"""Opens the console: chooses the face, and ends work in order when the terminal is closed or the process is told to end.

Numbered lines are for --plain, TERM=dumb or unset, a serial line, and where there is no terminal. Any other
terminal gets the screen, drawn with Textual.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from phd_daemon.console.face import WAITED_FOR, Face, NoScreen
from phd_daemon.console.menus import console
from phd_daemon.console.session import Session
from phd_daemon.host.signals import handled
from phd_daemon.show import output
from restore_core.errors import ExitCode, Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_SERIAL = ("/dev/ttyS", "/dev/ttyUSB", "/dev/ttyACM", "/dev/ttyAMA", "/dev/hvc")


def open_console(path: Path | None, *, plain: bool) -> int:
    """Runs the console until it is left. Raises `ConfigurationError`, and `Stopped` when the terminal was closed."""
    try:
        with closing(Session(path)) as session, ended_by_signals(session):
            _run(lambda face: console(face, session), plain=plain or needs_plain(os.environ.get("TERM", ""), _terminal()))
            if session.leaving.is_set():
                raise Stopped("the console was ended from outside")
    except Stopped as error:
        _end_now_if_work_goes_on(str(error), error.exit_code)
        raise
    _end_now_if_work_goes_on("", ExitCode.DONE)
    return ExitCode.DONE


def _end_now_if_work_goes_on(why: str, code: int) -> None:
    """Ends the process while a thread still waits for a silent target, which can take a minute. That thread changes nothing."""
    if any(thread.name == WAITED_FOR for thread in threading.enumerate()):
        if why:
            output.complain(why)
        output.finish()
        os._exit(code)


def needs_plain(term: str, terminal: str | None) -> bool:
    """Returns whether a screen cannot be drawn well: TERM says so, a serial line is slow, None is no terminal at all."""
    return term in ("", "dumb", "unknown") or terminal is None or terminal.startswith(_SERIAL)


def _run(talk: Callable[[Face], None], *, plain: bool) -> None:
    """Calls `talk` with the face that fits; with numbered lines also where the screen does not open."""
    if not plain:
        try:
            _screen()(talk)
            return
        except NoScreen as error:
            output.complain(f"{error}; going on with numbered lines")
    from phd_daemon.console.numbered_face import open_face

    open_face(talk)


def _screen() -> Callable[[Callable[[Face], None]], None]:
    try:
        from phd_daemon.console.screen.terminal import open_face
    except ImportError as error:
        raise NoScreen(f"Textual cannot be used here: {error}") from error
    return open_face


def _terminal() -> str | None:
    """Returns the device of the terminal, if standard input and output are one."""
    try:
        return os.ttyname(sys.stdin.fileno()) if sys.stdin.isatty() and sys.stdout.isatty() else None
    except OSError:  # a terminal of another mount namespace has no name here
        return ""


@contextmanager
def ended_by_signals(session: Session) -> Iterator[None]:
    """In this context SIGTERM and SIGHUP end a restore at its next block, and everything else at once."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        session.leaving.set()
        if not session.busy:
            raise Stopped("the console was ended from outside")

    with handled(_SIGNALS, on_signal):
        yield
