"""docs/phd.1 is what the commands say of themselves today, names everything a person may use, and is a page that man can show."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from phd_daemon.cli.main import COMMANDS
from restore_core.errors import ExitCode
from tests.man_page import PAGE, page


def formatted(*options: str) -> subprocess.CompletedProcess[str]:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed (Debian: groff-base): the page was not formatted")
    return subprocess.run([groff, "-man", "-Tutf8", "-P-cbou", *options, str(PAGE)], capture_output=True, text=True, check=True)


def test_it_is_not_stale() -> None:
    assert PAGE.read_text() == page(), "run 'make man'"


def test_every_command_and_every_exit_code_is_in_it() -> None:
    text = PAGE.read_text()
    for command in COMMANDS:
        assert f'.SS "phd {command}' in text
    status = text.partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    assert set(map(int, re.findall(r"^\.B (\d+)$", status, re.MULTILINE))) >= set(ExitCode) - {ExitCode.FINDINGS}


def test_man_can_show_it() -> None:
    shown = formatted("-ww", "-rLL=78n")
    assert shown.stderr == ""
    assert "phd - puts virtual disks back" in shown.stdout
    assert "phd rules edit [OPTIONS]" in shown.stdout
    assert "--older-than DAYS" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
