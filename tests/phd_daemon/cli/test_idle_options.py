"""An option that does nothing is named wherever somebody looks at the settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.doctor import targets
from restore_core.targets.base import TargetSpec

WORDS = "ca_file does nothing for file://; it is for ftps://"


def test_targets_and_the_check_of_the_daemon_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nas").mkdir()
    config = tmp_path / "phd.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n'
        f'[targets.nas]\nurl = "file://{tmp_path}/nas"\nca_file = "{tmp_path}/ca"\n'
    )
    assert run(["targets", "--config", str(config)]) == 0
    assert f"nas: {WORDS}" in capsys.readouterr().out
    assert run(["targets", "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["idle"] == [WORDS]
    assert run(["daemon", "--check", "--config", str(config)]) == 0
    assert f"targets.nas: {WORDS}" in capsys.readouterr().out


def test_the_doctor_says_what_follows() -> None:
    (found,) = targets.idle([TargetSpec(name="nas", url="ftp://h/x", ca_file="/ca"), TargetSpec(name="b", url="file:///x")])
    assert (found.check, found.where) == ("option-idle", "targets.nas")
    assert found.what == "ca_file does nothing for ftp://; it is for ftps://"
