"""`phd datastores` says what the file system of each one cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.host import datastores
from restore_core.capabilities import Capabilities


def test_a_datastore_says_what_its_file_system_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "volumes/usb").mkdir(parents=True)
    config = tmp_path / "phd.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n[datastores]\nroots = ["{tmp_path}/volumes"]\n'
    )
    assert run(["datastores", "--json", "--config", str(config)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["can"]["file_system"]
    assert found["can"]["free"] is not None
    monkeypatch.setattr(datastores, "of_folder", lambda _path: Capabilities(file_system="vfat", largest_file=(4 << 30) - 1))
    assert run(["datastores", "--config", str(config)]) == 0
    assert "usb: a file has at most 4 GiB" in capsys.readouterr().out
