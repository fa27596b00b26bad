"""Status, options and rules on a real pseudo-terminal: a log that grows, ^C, an editor that owns the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host import PHD
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.terminal import Terminal


def console(place: Place) -> Terminal:
    return Terminal([PHD, "--config", place.folder / "phd.toml"])


def test_a_log_is_followed_and_left_with_interrupt(place: Place) -> None:
    control, log = place.spool / "crm.running", place.spool / "crm.log"
    control.write_text("")
    log.write_text("begun\n")
    with console(place) as terminal:
        terminal.answer("Main Menu", "b")
        terminal.answer("Backup Restore Status", "1")
        terminal.answer("Job crm", "l")
        terminal.expect("begun")
        with log.open("a") as file:
            file.write("half way\n")
        terminal.expect("half way")
        terminal.keys("\x03")
        terminal.answer("Job crm", "0")
        terminal.answer("Backup Restore Status", "0")
        assert control.exists()
        control.rename(place.spool / "crm.done")
        terminal.answer("Main Menu", "b")
        terminal.answer("Backup Restore Status", "1")
        terminal.answer("Job crm", "l")
        terminal.expect("half way")
        terminal.answer("Job crm", "0")
        terminal.answer("Backup Restore Status", "0")
        terminal.answer("Main Menu", "0")
        assert terminal.ends() == 0


def test_an_option_is_changed(place: Place) -> None:
    with console(place) as terminal:
        terminal.answer("Main Menu", "c")
        terminal.answer("Configuration", "c")
        terminal.answer("Replication / Restore Options", "2")
        terminal.answer("New value", "9")
        terminal.expect("must be at most 4")
        terminal.answer("New value", "3")
        terminal.answer("Run 3 restores at once?", "y")
        shown = terminal.answer("Replication / Restore Options", "0")
        assert "has changed" not in shown
        terminal.answer("Configuration", "0")
        terminal.answer("Main Menu", "0")
        assert terminal.ends() == 0
    assert "workers = 3" in (place.folder / "phd.toml").read_text()


def test_the_editor_has_the_terminal(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "what shall stand there? "\nread line\necho "$line" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    rule = f"RESTORE:CRM|*|00|CRM.vmdk|{place.datastore}/r/CRM.vmdk"
    with console(place) as terminal:
        terminal.answer("Main Menu", "e")
        terminal.answer("Restore Menu", "r")
        terminal.answer("Replication Action", "e")
        terminal.expect("what shall stand there?")
        terminal.keys("RESTORE:CRM\n")
        terminal.expect("line 1, column 12")
        terminal.answer("edit again")
        terminal.expect("what shall stand there?")
        terminal.keys(f"{rule}\n")
        terminal.expect("vmdks.auto: 1 rule")
        terminal.answer("Replication Action", "p")
        terminal.expect("would be queued")
        terminal.prompted()
        terminal.keys("0\n")
        for title in ("Replication Action", "Restore Menu", "Main Menu"):
            terminal.answer(title, "0")
        assert terminal.ends() == 0
    assert (place.folder / "vmdks.auto").read_text() == f"{rule}\n"
