"""From the first screen to a finished restore, compared byte by byte: with Textual's pilot, and with `phd` on a real terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.console.menus import console
from tests import servers
from tests.host import PHD
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.screen_hands import ScreenHands, at_the_screen
from tests.phd_daemon.console.terminal import Terminal
from tests.phd_daemon.small_backup import UUID, VMX

CLOSED = "\x1b[?1049l"  # the terminal is given back as it was
ENTER, BACK, INTERRUPT = "\r", "\x1b", "\x03"
TO_PLACE = ("Backups of CRM", "Restore this backup?", "The Full for this Delta", "Where to restore CRM.vmdk")
TO_START = ("Datastore", "Folder on", "Name of the VMDK", "Start this restore?")
EDGE = "m "  # what stands before a title: its style, and a space
OUT = ("Backups of CRM", f"CRM ({UUID}): a date", "Virtual Machines", "Restore through the Console", "Restore Menu", "Main Menu")


@pytest.mark.parametrize("size", [(80, 24), (60, 15)])
def test_a_restore_by_pressing_enter(place: Place, size: tuple[int, int]) -> None:
    shown = []

    async def do(hands: ScreenHands) -> None:
        await hands.expect("Main Menu", "No daemon serves the restore queue")
        await hands.press("e")
        await hands.answer("Restore Menu", "c")
        await hands.answer("Restore through the Console", "v")
        shown.append(await hands.answer("Virtual Machines", "enter"))
        for title in ("a date or All Dates", *TO_PLACE, *TO_START):
            await hands.answer(title, "enter")
        await hands.answer("Submit this restore job", "n")
        await hands.answer("bytes restored and verified", "enter")
        await hands.answer("Restore the VMX file also?", "y")
        await hands.answer("check its paths and settings", "enter")
        for title in OUT:
            await hands.answer(title, "escape")
        await hands.until(lambda: not hands.app._flow.is_alive(), "the end")

    at_the_screen(lambda face: console(face, place.session), do, size=size)
    assert place.restored() == place.backup.content
    assert (place.disk.parent / "CRM.vmx").read_bytes() == VMX
    assert UUID in shown[0]


def at_a_terminal(place: Place) -> Terminal:
    return Terminal([PHD, "--config", place.folder / "phd.toml"], term="xterm")


def through(terminal: Terminal, *titles: str, key: str = ENTER) -> None:
    for title in titles:
        terminal.expect(EDGE + title)
        terminal.keys(key)


def to_the_backups(terminal: Terminal) -> None:
    for title, key in (("Main Menu", "e"), ("Restore Menu", "c"), ("Restore through the Console", "v")):
        through(terminal, title, key=key)
    through(terminal, "Virtual Machines", f"CRM ({UUID}): a date")


def to_a_restore_of_the_full(terminal: Terminal) -> None:
    """Its Full is not proven first, and comes in half a minute."""
    to_the_backups(terminal)
    terminal.expect(EDGE + TO_PLACE[0])
    terminal.keys("/full\r\r")
    through(terminal, TO_PLACE[1], TO_PLACE[3], *TO_START, "Restore it now, in the foreground?")
    terminal.expect("MB processed")


def test_the_same_on_a_real_terminal(place: Place) -> None:
    with at_a_terminal(place) as terminal:
        to_the_backups(terminal)
        through(terminal, *TO_PLACE, *TO_START)
        through(terminal, "Submit this restore job", key="n")
        through(terminal, "Restored", "Restore the VMX file also?")
        through(terminal, *OUT, key=BACK)
        assert terminal.ends() == 0
    assert CLOSED in terminal.said
    assert place.restored() == place.backup.content
    assert not (place.disk.parent / "CRM.vmx").exists()


@pytest.fixture
def slow(place: Place) -> Iterator[None]:
    """The same backups behind a line on which a restore takes far longer than a test."""
    with servers.pyftpd(place.folder) as served:
        shutil.copytree(place.folder / "nas", served.store, dirs_exist_ok=True)
        config = place.folder / "phd.toml"
        login = f'password_file = "{served.spec.password_file}"\nbandwidth = "64KB/s"\n'
        text = config.read_text().partition("[targets.")[0]
        config.write_text(f'{text}[targets.far]\nurl = "{served.spec.url}"\n{login}')
        yield


@pytest.mark.usefixtures("slow")
def test_interrupt_asks_stops_and_leaves_nothing_half_made(place: Place) -> None:
    with at_a_terminal(place) as terminal:
        to_a_restore_of_the_full(terminal)
        terminal.keys(INTERRUPT)
        terminal.expect("Stop this?")
        terminal.keys("n")
        terminal.expect("^C stop")
        terminal.keys(INTERRUPT)
        terminal.expect("Stop this?")
        terminal.keys("y")
        terminal.expect("nothing was left behind")
        terminal.keys(ENTER)
        terminal.expect("empty Delta")  # in the list, whose title is that of the page before, which may be drawn twice
        terminal.keys(BACK)
        through(terminal, *OUT[1:], key=BACK)
        assert terminal.ends() == 0
    assert not place.disk.parent.exists()


@pytest.mark.usefixtures("slow")
def test_a_closed_window_stops_a_restore_and_leaves_nothing_half_made(place: Place) -> None:
    with at_a_terminal(place) as terminal:
        to_a_restore_of_the_full(terminal)
        terminal.hang_up()
        assert terminal.ends() == 130
    assert not place.disk.parent.exists()


def test_left_while_targets_are_looked_at_the_process_ends_at_once(place: Place) -> None:
    program = (
        "import pathlib, sys, threading, phd_daemon.console.choose_backup as there\n"
        "from phd_daemon.console.opening import open_console\n"
        "def look(*_, **__):\n"
        "    silent = threading.Thread(target=threading.Event().wait)\n"
        "    silent.start()\n"
        "    silent.join()\n"
        "there.search = look\n"
        "sys.exit(open_console(pathlib.Path(sys.argv[1]), plain=False))\n"
    )
    with Terminal([sys.executable, "-c", program, place.folder / "phd.toml"], term="xterm") as terminal:
        for title, key in (("Main Menu", "e"), ("Restore Menu", "c"), ("Restore through the Console", "v")):
            through(terminal, title, key=key)
        through(terminal, "Please wait", *reversed(("Main Menu", "Restore Menu", "Restore through the Console")), key=BACK)
        assert terminal.ends() == 0
    assert CLOSED in terminal.said


def test_a_kill_gives_the_terminal_back(place: Place) -> None:
    with at_a_terminal(place) as terminal:
        terminal.expect("Main Menu")
        terminal.process.terminate()
        assert terminal.ends() == 130
    assert CLOSED in terminal.said


def test_without_textual_numbered_lines_take_over(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken" / "textual").mkdir(parents=True)
    (tmp_path / "broken" / "textual" / "__init__.py").write_text("raise ImportError('not for this Python')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with at_a_terminal(place) as terminal:
        terminal.expect("Textual cannot be used here: not for this Python; going on with numbered lines")
        terminal.answer("Main Menu", "0")
        assert terminal.ends() == 0


def test_the_editor_has_the_terminal(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "what shall stand there? "\nread line\necho "$line" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    rule = f"RESTORE:CRM|*|00|CRM.vmdk|{place.datastore}/r/CRM.vmdk"
    with at_a_terminal(place) as terminal:
        for title, key in (("Main Menu", "e"), ("Restore Menu", "r"), ("Replication Action", "e")):
            terminal.expect(EDGE + title)
            terminal.keys(key)
        assert CLOSED in terminal.expect("what shall stand there?")
        terminal.keys(f"{rule}\n")
        through(terminal, "Edit vmdks.auto", "Replication Action", "Restore Menu", "Main Menu", key=BACK)
        assert terminal.ends() == 0
    assert (place.folder / "vmdks.auto").read_text() == f"{rule}\n"
