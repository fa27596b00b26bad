"""Every way a command can end has one exit code, decided in one place; start-up stays light."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from phd_daemon.cli import main
from phd_daemon.cli.main import COMMANDS, phd, run
from phd_daemon.show import output
from restore_core.errors import BadArchive, ConfigurationError, DestinationError, PhdError, Stopped, TryAgainLater, UsageError

Say = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_is_offered_works(name: str, capsys: Say) -> None:
    assert run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: phd {name}")


def test_phd_alone_prints_help(capsys: Say) -> None:
    assert run([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (BadArchive("x"), 65),
        (DestinationError("x"), 73),
        (TryAgainLater("x"), 75),
        (ConfigurationError("x"), 78),
        (Stopped("x"), 130),
        (PhdError("x"), 70),
        (click.UsageError("x"), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/etc/phd/restore"), 73),
        (OSError(5, "Input/output error"), 75),
        (ZeroDivisionError("planted"), 70),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: Say, error: BaseException, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(phd, "main", fail)
    assert run(["x"]) == code
    assert capsys.readouterr().err


def test_a_bug_is_called_a_bug_and_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(phd, "main", fail)
    run(["x"])
    said = capsys.readouterr().err
    assert "this is a bug of ours" in said
    assert "ZeroDivisionError: planted" in said


@pytest.mark.parametrize("arguments", [["nonsense"], ["submit"], ["--nonsense"], ["log", "a", "b"]])
def test_wrong_command_lines(arguments: list[str], capsys: Say) -> None:
    assert run(arguments) == 2
    capsys.readouterr()


def test_a_bad_configuration_is_78_for_every_command_that_reads_it(tmp_path: Path, capsys: Say) -> None:
    bad = tmp_path / "phd.toml"
    bad.write_text("[queue]\nworkers = 9\n")
    for command in (["targets"], ["clean"], ["queue"], ["hold", "x"], ["restore", "a", "--to", "b"], ["submit", "a", "--to", "b"]):
        assert run([*command, "--config", str(bad)]) == 78
        assert f"{bad}:2: queue.workers: must be at most 4" in capsys.readouterr().err


def test_the_installed_command_and_its_version() -> None:
    ran = subprocess.run([str(Path(sys.executable).with_name("phd")), "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"phd, version {importlib.metadata.version('phd-daemon')}\n"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("phd_daemon.cli.main", ["pydantic", "rich", "watchdog", "structlog", "paramiko", "tomlkit"]),
        (
            "phd_daemon.cli.commands.restore",
            [
                "pydantic",
                "rich",
                "watchdog",
                "structlog",
                "paramiko",
                "tomlkit",
                "phd_daemon.spool.status_file",
                "restore_core.catalog.index",
            ],
        ),
    ],
)
def test_start_up_is_light(module: str, absent: list[str]) -> None:
    code = f"import {module}, sys; print([name for name in {absent} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_reader_that_went_away_is_no_error() -> None:
    code = (
        "from phd_daemon.show import output\nfor _ in range(20000): output.say('x' * 100)\noutput.finish()\noutput.complain('end')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b"phd: end\n"
    assert child.returncode == 0


def test_nothing_steers_the_terminal(capsys: Say) -> None:
    output.say("a\x1b[31m\x9b\u202e 100%25\nb\r")
    assert capsys.readouterr().out == "a%1B[31m%C2%9B%E2%80%AE 100%25\nb%0D\n"


def test_a_name_that_is_not_utf8_is_printed(tmp_path: Path) -> None:
    config = tmp_path / "phd.toml"
    config.write_text(f'[queue]\nspool = "{tmp_path}"\n')
    command = [os.fsencode(Path(sys.executable).with_name("phd")), b"log", b"a\xff", b"--config", os.fsencode(config)]
    ran = subprocess.run(command, capture_output=True, check=False)
    assert ran.returncode == 2
    assert b"a%FF" in ran.stderr


def test_a_table_for_programs_is_plain(capsys: Say) -> None:
    output.table(("A", "LONGER"), [("1", "x"), ("1234", "y\x1b")])
    assert capsys.readouterr().out == "A     LONGER\n1     x\n1234  y%1B\n"


def test_sizes_for_people() -> None:
    assert [output.size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == ["0 bytes", "1023 bytes", "1.0 KB", "5.0 MB", "3072.0 GB"]


def test_main_is_the_entry_point(monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    monkeypatch.setattr(sys, "argv", ["phd", "nonsense"])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 2
    capsys.readouterr()


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/etc/phd/phd.toml")

    monkeypatch.setattr(phd, "main", fail)
    assert run(["x"]) == 73
    said = capsys.readouterr().err
    assert said.startswith("phd: /etc/phd/phd.toml: cannot be written: No space left on device\n")
    assert "job" not in said
