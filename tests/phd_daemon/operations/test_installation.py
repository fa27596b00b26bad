"""What every operation begins with, where an installation is not what its person thinks it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from phd_daemon.config.load import load_config
from phd_daemon.operations import installation
from phd_daemon.operations.installation import destination, how_to_start, settings_in_use, spool_of
from restore_core.errors import ConfigurationError


def test_a_missing_spool_is_said_with_the_settings_that_name_it(tmp_path: Path) -> None:
    file = tmp_path / "phd.toml"
    file.write_text(f'[queue]\nspool = "{tmp_path}/none"\n')
    with pytest.raises(ConfigurationError) as raised:
        spool_of(load_config(file))
    assert f"queue.spool: {tmp_path}/none: there is no such folder (settings: {file})" in str(raised.value)


def test_without_settings_the_defaults_are_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHD_CONFIG", raising=False)
    monkeypatch.setattr("phd_daemon.config.load.DEFAULT_PATH", tmp_path / "none")
    assert settings_in_use(load_config(None)).endswith("the defaults are used")


@pytest.mark.parametrize(
    ("booted", "unit", "command"),
    [(True, True, "systemctl start phd-daemon"), (True, False, "phd daemon --detach"), (False, True, "phd daemon --detach")],
)
def test_systemctl_is_named_only_where_systemd_runs_and_has_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, booted: bool, unit: bool, command: str
) -> None:
    monkeypatch.setattr(installation, "BOOTED", tmp_path if booted else tmp_path / "none")
    monkeypatch.setattr(installation, "_UNIT_FOLDERS", (str(tmp_path),))
    if unit:
        (tmp_path / "phd-daemon.service").touch()
    assert how_to_start() == command


@pytest.mark.parametrize(("stored", "typed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_destination_is_the_folder_and_the_disk_that_are_there_in_another_spelling(
    tmp_path: Path, stored: Literal["NFC", "NFD"], typed: Literal["NFC", "NFD"]
) -> None:
    disk = tmp_path / normalize(stored, "Büro") / normalize(stored, "Café.vmdk")
    disk.parent.mkdir()
    disk.touch()
    assert destination(normalize(typed, str(disk))) == disk
    new = normalize(typed, str(disk.parent / "Öl" / "Ü.vmdk"))
    assert destination(new) == disk.parent / normalize(typed, "Öl") / normalize(typed, "Ü.vmdk")
