"""`phd` alone: the console on a terminal, help where there is none, numbered lines where they are asked for or needed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.console import opening
from phd_daemon.console.face import NoScreen
from phd_daemon.console.screen import terminal as screen
from restore_core.errors import ExitCode
from tests.host import PHD
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.terminal import Terminal

Say = pytest.CaptureFixture[str]


def phd(*arguments: str | Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([PHD, *arguments], input=typed, capture_output=True, text=True, check=False)


def test_without_a_terminal_it_is_help() -> None:
    ran = phd()
    assert ran.returncode == 0
    assert ran.stdout.startswith("Usage: phd")


def test_plain_can_be_driven_by_a_pipe_and_ends_with_it(place: Place) -> None:
    ran = phd("--plain", "--config", place.folder / "phd.toml", typed="e\nc\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("Restore through the Console") == 1
    assert ran.stdout.count("Main Menu") == 2


def test_typed_bytes_that_are_no_text_are_only_a_wrong_answer(place: Place) -> None:
    ran = subprocess.run(
        [PHD, "--plain", "--config", place.folder / "phd.toml"],
        input=b"\xff\n0\n",
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert ran.returncode == 0, ran.stderr
    assert b"There is no" in ran.stdout


def test_settings_that_are_wrong_are_said_before_any_menu(tmp_path: Path) -> None:
    config = tmp_path / "phd.toml"
    config.write_text("queue = 3\n")
    ran = phd("--plain", "--config", config)
    assert ran.returncode == ExitCode.CONFIGURATION
    assert "Main Menu" not in ran.stdout


def test_an_option_of_the_console_is_for_the_console(capsys: Say) -> None:
    assert run(["--plain", "queue"]) == ExitCode.USAGE
    assert "is only for the console" in capsys.readouterr().err


def test_where_the_screen_does_not_open_numbered_lines_do(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    def does_not_open(_talk: object) -> None:
        raise NoScreen("planted")

    monkeypatch.setattr(screen, "open_face", does_not_open)
    monkeypatch.setattr(opening, "needs_plain", lambda _term, _terminal: False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert opening.open_console(place.folder / "phd.toml", plain=False) == 0
    said = capsys.readouterr()
    assert "planted; going on with numbered lines" in said.err
    assert "Main Menu" in said.out


@pytest.mark.parametrize("plain", [True, False])
def test_on_a_terminal_that_can_it_is_a_screen_unless_plain_is_asked_for(place: Place, plain: bool) -> None:
    options = ["--plain"] * plain
    with Terminal([PHD, *options, "--config", place.folder / "phd.toml"], term="xterm") as terminal:
        terminal.expect("Main Menu")
        if plain:
            terminal.expect("Your choice")
            assert "\x1b" not in terminal.said
            terminal.keys("0\n")
        else:
            terminal.expect("Restore Menu")
            assert "\x1b[" in terminal.said
            terminal.keys("\x1b")
        assert terminal.ends() == 0
