"""The menus as data, and what shows them: it calls the flow behind an entry, shows its errors, and then the menu again.

Letters and their order are those of 2007: (B) status, (C) configuration, (E) restore menu with (C) through the console and (R)
replication. A flow is imported when its entry is chosen, and called with (face, session).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from phd_daemon.console.face import Choice, Face, Page, Row
from phd_daemon.console.session import Session
from phd_daemon.operations.queue import Obstacle, obstacle
from restore_core import __version__
from restore_core.errors import PhdError, Stopped, from_os_error

T = TypeVar("T")
Flow = Callable[[Face, Session], object]
NO_DAEMON = "No daemon serves the restore queue: jobs wait until one does. Restores in the foreground work."
QUEUE_OFF = "The restore queue is switched off: jobs wait until it is on. Restores in the foreground work."


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuEntry:
    """One line of a menu: its letter, its text, and the menu or the flow (`module:function`) it leads to."""

    key: str
    label: str
    leads_to: Menu | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """A menu. `help` is what `?` shows."""

    title: str
    entries: tuple[MenuEntry, ...]
    help: str
    proposed: str = ""  # the key of the entry that Enter takes


REPLICATION = Menu(
    title="Replication Action",
    entries=(
        MenuEntry(key="b", label="Manage the Backup Restore Queue", leads_to="status_flow:status"),
        MenuEntry(key="e", label="Edit vmdks.auto", leads_to="rules_flow:edit"),
        MenuEntry(key="f", label="Preload vmdks.auto with all known VMDKs", leads_to="rules_flow:preload"),
        MenuEntry(key="p", label="Preview: what each rule would restore, and how far behind it is", leads_to="rules_flow:preview"),
        MenuEntry(key="n", label="Run a replication pass now, or dry", leads_to="rules_flow:run_pass"),
    ),
    help="""\
Replication restores the newest backups of the VMDKs named in vmdks.auto, again and again, as jobs of the restore queue.
First preload the file: every VMDK on the backup targets gets a line, commented out. Then edit it, and preview what it means.
The same from a shell: phd rules load, phd rules check, phd replicate --dry-run.""",
)

CONSOLE_RESTORE = Menu(
    title="Restore through the Console",
    entries=(
        MenuEntry(key="v", label="Select by Virtual Machine name", leads_to="restore_flow:by_vm"),
        MenuEntry(key="f", label="Select by VMDK name", leads_to="restore_flow:by_vmdk"),
        MenuEntry(key="x", label="Restore a VMX file only", leads_to="vmx_flow:vmx_only"),
    ),
    help="""\
A restore brings back one VMDK: for a VM with four disks choose each of the four. Choose a Delta rather than a Full: every
block of it is checked. Version-2 backups are listed under the name of their host.
The same from a shell: phd backups, then phd restore or phd submit; phd vmx.""",
)

RESTORE = Menu(
    title="Restore Menu",
    entries=(
        MenuEntry(key="c", label="Restore through the console", leads_to=CONSOLE_RESTORE),
        MenuEntry(key="s", label="Create a STUB file", leads_to="stub_flow:stub"),
        MenuEntry(key="r", label="Replication Action", leads_to=REPLICATION),
    ),
    help="""\
Restore VMDK and VMX files from the backup targets, write the STUB (descriptor) that a flat file needs to be used as a VMDK,
or let the newest backups be restored again and again (replication).""",
)

CONFIGURATION = Menu(
    title="Configuration",
    entries=(MenuEntry(key="c", label="Replication / Restore Options", leads_to="options_flow:options"),),
    help="""\
The settings of the restore queue and of replication. They are written into phd.toml, whose comments stay, and a running
daemon takes them up. Targets and datastores are set in that file with an editor.""",
)

MAIN = Menu(
    title="Main Menu",
    proposed="e",
    entries=(
        MenuEntry(key="b", label="Backup Restore Status", leads_to="status_flow:status"),
        MenuEntry(key="c", label="Configuration", leads_to=CONFIGURATION),
        MenuEntry(key="e", label="Restore Menu", leads_to=RESTORE),
        MenuEntry(key="s", label="How this installation stands, and what needs a person", leads_to="overview_flow:stands"),
    ),
    help="""\
Restores by pressing Enter: (E), then (C), then (V) leads from the name of a virtual machine to its restored disk. (B) shows
the restore queue and its logs, (S) what phd status says. Going back (Esc, on numbered lines 0) ends the console here. Whatever
is done here, a phd command does too: phd --help lists them.""",
)


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
    except PhdError as error:
        if isinstance(error, Stopped) and session.leaving.is_set():
            raise
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
    return {Obstacle.SWITCHED_OFF: QUEUE_OFF, Obstacle.NO_DAEMON: NO_DAEMON, None: ""}[obstacle(session.config)]


def _choice(menu: Menu, session: Session) -> Choice[MenuEntry]:
    intro = (f"phd {__version__} on {os.uname().nodename}", *filter(None, [queue_state(session)])) if menu is MAIN else ()
    rows = [Row(cells=(entry.label,), value=entry, key=entry.key) for entry in menu.entries]
    start = next((at for at, entry in enumerate(menu.entries) if entry.key == menu.proposed), None)
    return Choice(title=menu.title, rows=rows, intro=intro, help=menu.help, start=start)
