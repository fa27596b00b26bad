"""`--quiet`, for timers: nothing is printed when all is well, and every error still is. A program's `--json` is no talk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode
from tests.phd_daemon.small_backup import SmallBackup, small_backup

Say = pytest.CaptureFixture[str]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallBackup:
    found = small_backup(tmp_path / "nas", size=1 << 20)
    (tmp_path / "spool/.state").mkdir(parents=True)
    (tmp_path / "ds").mkdir()
    (tmp_path / "raw.img").write_bytes(bytes(1 << 20))
    (tmp_path / "phd.toml").write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n[targets.nas1]\nurl = "file://{tmp_path}/nas"\n'
        f'[backup]\nstaging_dir = "{tmp_path}"\n[replication]\nrules = "{tmp_path}/none"\nledger = "{tmp_path}/ledger"\n'
        f'default_datastore = "{tmp_path}/ds"\n[datastores]\nroots = ["{tmp_path}"]\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    monkeypatch.chdir(tmp_path)
    return found


def test_a_quiet_command_prints_nothing_when_all_is_well(made: SmallBackup, capsys: Say) -> None:
    for command in (
        ["backup", "raw.img", "--target", "nas1"],
        ["index"],
        ["verify", str(made.delta)],
        ["restore", str(made.delta), "--to", "ds/CRM.vmdk"],
        ["replicate"],
        ["clean"],
    ):
        assert run([*command, "--quiet"]) == ExitCode.DONE, command
        assert capsys.readouterr() == ("", ""), command
    assert run(["index"]) == ExitCode.DONE  # the next command speaks again
    assert "nas1" in capsys.readouterr().out


def test_a_quiet_command_still_says_what_is_wrong(made: SmallBackup, tmp_path: Path, capsys: Say) -> None:
    made.full_path.write_bytes(b"no archive")
    for command, code, said in (
        (["backup", "gone.img", "--target", "nas1"], ExitCode.BAD_DATA, "gone.img"),
        (["verify", str(made.full)], ExitCode.BAD_DATA, "00-CRM.vmdk.gz"),
        (["adopt", str(made.full)], ExitCode.DESTINATION, "is there already"),
    ):
        assert run([*command, "--quiet"]) == code, command
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err, command
    (tmp_path / "nas").rename(tmp_path / "away")
    assert run(["index", "--quiet"]) == ExitCode.UNAVAILABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert "nas1" in err


def test_data_for_programs_is_printed_by_a_quiet_command(made: SmallBackup, capsys: Say) -> None:
    assert run(["verify", str(made.delta), "--json", "--quiet"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert json.loads(out)["archive"] == str(made.delta)
    assert err == ""
