"""What is typed almost right means what it can only mean, or gets a sentence with what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode

Say = pytest.CaptureFixture[str]
_FOLDER = "2026.11.22-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PHD_CONFIG", raising=False)
    for name in ("spool", "state", f"store/{_FOLDER}"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "store" / _FOLDER / "00-CRM.vmdk.delta-2026.11.22-0300-261121-0300.phd").write_bytes(b"x")
    file = tmp_path / "phd.toml"
    file.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[queue]\nspool = "{tmp_path / "spool"}"\n'
        f'[replication]\nrules = "{tmp_path / "vmdks.auto"}"\n[targets.nas1]\nurl = "file://{tmp_path / "store"}"\n'
    )
    return file


@pytest.mark.parametrize("words", [["queue"], ["targets"], ["rules", "check"], ["options"]])
def test_the_settings_may_stand_before_the_command(config: Path, words: list[str], capsys: Say) -> None:
    after = run([*words, "--config", str(config)])
    said = capsys.readouterr().out
    assert run(["--config", str(config), *words]) == after
    assert len(capsys.readouterr().out.splitlines()) == len(said.splitlines())


def test_the_settings_before_the_command_are_the_ones_that_are_read(config: Path, capsys: Say) -> None:
    config.write_text("queue = 3\n")
    assert run(["--config", str(config), "queue"]) == ExitCode.CONFIGURATION
    assert str(config) in capsys.readouterr().err


def test_two_different_files_of_settings_are_refused(config: Path, capsys: Say) -> None:
    assert run(["--config", str(config), "queue", "--config", "other"]) == ExitCode.USAGE
    assert "leave one out" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "meant"), [("queu", "queue"), ("Status", "status"), ("stat", "status")])
def test_a_command_that_does_not_exist_gets_the_one_that_is_near(typed: str, meant: str, capsys: Say) -> None:
    assert run([typed]) == ExitCode.USAGE
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["crm", "CRN", "Crm"])
def test_a_vm_that_does_not_exist_gets_the_one_that_is_near(config: Path, typed: str, capsys: Say) -> None:
    run(["submit", "--vm", typed, "--to", "x", "--config", str(config)])
    assert "did you mean 'CRM'?" in capsys.readouterr().err
    assert run(["backups", "--vm", typed, "--config", str(config)]) == ExitCode.DONE
    assert "did you mean 'CRM'?" in capsys.readouterr().err


def test_no_backup_at_all_says_what_to_type(config: Path, capsys: Say) -> None:
    for file in (config.parent / "store").glob("*/*"):
        file.unlink()
    run(["backups", "--config", str(config)])
    assert "phd backup" in capsys.readouterr().err


def test_options_that_exclude_every_backup_say_so(config: Path, capsys: Say) -> None:
    assert run(["backups", "--vm", "CRM", "--scsi", "99", "--config", str(config)]) == ExitCode.DONE
    assert "nothing matches" in capsys.readouterr().err


def test_a_wildcard_is_no_name_of_a_vm(config: Path, capsys: Say) -> None:
    run(["backups", "--vm", "X*", "--config", str(config)])
    assert "did you mean" not in capsys.readouterr().err
