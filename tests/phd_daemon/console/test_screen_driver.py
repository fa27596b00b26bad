"""A terminal that goes away: what is written to it is thrown away, and nobody waits for it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from phd_daemon.console.face import NoScreen
from phd_daemon.console.screen import terminal as screen
from phd_daemon.console.screen.terminal import Unbroken


def test_a_terminal_that_is_gone_takes_everything_and_breaks_nothing() -> None:
    outside, inside = pty.openpty()
    with os.fdopen(inside, "w") as file:
        unbroken = Unbroken(file)
        unbroken.write("seen")
        unbroken.flush()
        assert os.read(outside, 10) == b"seen"
        os.close(outside)
        for _ in range(100):
            unbroken.write("x" * 100_000)
            unbroken.flush()
        assert os.path.samestat(os.fstat(unbroken.fileno()), Path(os.devnull).stat())


def test_where_the_screen_would_not_be_seen_it_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """`phd 2>file`: Textual draws on standard error."""
    asked: list[object] = []
    with Path(os.devnull).open("w") as file:
        monkeypatch.setattr(sys, "__stderr__", file)
        with pytest.raises(NoScreen, match="standard error is no terminal"):
            screen.open_face(asked.append)
    assert asked == []


def test_numbered_lines_never_wait_for_textual() -> None:
    program = "import sys, phd_daemon.console.opening, phd_daemon.console.numbered_face; print('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
