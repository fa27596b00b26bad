"""Shows the menus, calls the flow behind an entry, and shows its errors; then the menu is shown again.

A flow is imported when its entry is chosen, and called with (face, session).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TypeVar, cast

from phd_daemon.console.face import Choice, Face, Page, Row
from phd_daemon.console.session import Session
from phd_daemon.console.tree import MAIN, Menu, MenuEntry
from phd_daemon.operations.queue import Obstacle, obstacle
from restore_core import __version__
from restore_core.errors import PhdError, Stopped, from_os_error

T = TypeVar("T")
Flow = Callable[[Face, Session], object]
NO_DAEMON = "No daemon serves the restore queue: jobs wait until one does. Restores in the foreground work."
QUEUE_OFF = "The restore queue is switched off: jobs wait until it is on. Restores in the foreground work."


def console(face: Face, session: Session) -> None:
    """Shows the main menu until the person leaves it."""
    run_menu(MAIN, face, session)


def run_menu(menu: Menu, face: Face, session: Session) -> None:
    """Shows one menu again and again until it is left."""
    while True:
        entry = face.choose(_choice(menu, session))
        if entry is None:
            return
        if isinstance(entry.leads_to, Menu):
            run_menu(entry.leads_to, face, session)
        else:
            call(entry.label, flow(entry.leads_to), face, session)


def call(title: str, what: Flow, face: Face, session: Session) -> None:
    """Calls one flow and shows its error: a `PhdError` or an `OSError`. ^C goes back.

    Raises `Stopped` when this process must end.
    """
    try:
        what(face, session)
    except KeyboardInterrupt:
        session.reconnect()
    except Stopped as error:
        if session.leaving.is_set():
            raise
        face.show(Page(title=title, lines=str(error).split("\n")))
    except PhdError as error:
        face.show(Page(title=title, lines=str(error).split("\n")))
    except OSError as error:
        typed = from_os_error(error, doing="cannot be used", where=os.fsdecode(error.filename or "this system"))
        face.show(Page(title=title, lines=str(typed).split("\n")))


def waited(message: str, work: Callable[[], T], face: Face, session: Session) -> T | None:
    """Returns what the work returned; None when the person did not wait for it, which means one step back."""
    try:
        return face.wait(message, work)
    except KeyboardInterrupt:
        session.reconnect()
        return None


def flow(name: str) -> Flow:
    """Imports and returns the function that `module:function` names."""
    module, _, function = name.partition(":")
    return cast("Flow", getattr(importlib.import_module(f"phd_daemon.console.{module}"), function))


def queue_state(session: Session) -> str:
    """Returns why a job in the queue would only wait; empty if it would run."""
    match obstacle(session.config):
        case Obstacle.SWITCHED_OFF:
            return QUEUE_OFF
        case Obstacle.NO_DAEMON:
            return NO_DAEMON
    return ""


def _choice(menu: Menu, session: Session) -> Choice[MenuEntry]:
    intro = (f"phd {__version__} on {os.uname().nodename}", *filter(None, [queue_state(session)])) if menu is MAIN else ()
    rows = [Row(cells=(entry.label,), value=entry, key=entry.key) for entry in menu.entries]
    start = next((at for at, entry in enumerate(menu.entries) if entry.key == menu.proposed), None)
    return Choice(title=menu.title, rows=rows, intro=intro, help=menu.help, start=start)
