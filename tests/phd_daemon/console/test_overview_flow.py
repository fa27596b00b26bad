"""What the console says of an installation, and what `phd status` says: the same."""

from __future__ import annotations

import pytest

from phd_daemon.cli.main import run
from phd_daemon.console import overview_flow
from phd_daemon.console.menus import call
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.scripted import Scripted

Say = pytest.CaptureFixture[str]


def said_by_the_command(place: Place, capsys: Say) -> list[str]:
    run(["status", "--config", str(place.folder / "phd.toml")])
    return capsys.readouterr().out.splitlines()


def said_in_the_console(place: Place) -> list[str]:
    face = Scripted()
    call("test", overview_flow.stands, face, place.session)
    assert face.seen[:2] == ["Looking at the installation", "How this installation stands"]
    return face.seen[2:]


def test_the_console_says_what_the_command_says(place: Place, capsys: Say) -> None:
    (place.spool / "mail.held").write_text("")
    (place.spool / "crm.failed").write_text("")
    lines = said_in_the_console(place)
    assert lines == said_by_the_command(place, capsys)
    assert "  mail is held" in lines
    assert any(line.startswith("daemon      does not run") for line in lines)


def test_what_became_wrong_meanwhile_is_said_and_hides_nothing(place: Place, capsys: Say) -> None:
    file = place.folder / "phd.toml"
    file.write_text(file.read_text() + "[queue.wrong\n")
    lines = said_in_the_console(place)
    assert lines == said_by_the_command(place, capsys)
    assert lines[0].startswith("settings    ")
