"""One option changes in phd.toml: what the operation says of it is what the file says afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.config.edit import find
from phd_daemon.config.load import load_config
from phd_daemon.operations.settings import options_file, set_option
from restore_core.errors import ConfigurationError, TryAgainLater, UsageError

TEXT = "[queue]   # mine\nworkers = 1\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "phd.toml"
    path.write_text(TEXT)
    return path


def test_a_change_says_what_was_and_what_is_and_warns(path: Path) -> None:
    done = set_option(options_file(load_config(path)), find("queue.workers"), "3")
    assert (done.before, done.now, done.file) == ("1", "3", path)
    assert len(done.warnings) == 1
    assert path.read_text() == TEXT.replace("1", "3")


def test_the_value_that_is_there_already_changes_nothing(path: Path) -> None:
    done = set_option(options_file(load_config(path)), find("queue.workers"), "1")
    assert (done.before, done.now) == ("1", "1")
    assert path.read_text() == TEXT


def test_a_wrong_value_and_an_edit_meanwhile_are_refused(path: Path) -> None:
    file = options_file(load_config(path))
    with pytest.raises(UsageError):
        set_option(file, find("queue.workers"), "9")
    path.write_text(TEXT + "# edited\n")
    with pytest.raises(TryAgainLater):
        set_option(file, find("queue.workers"), "2")
    assert path.read_text() == TEXT + "# edited\n"


def test_without_a_file_there_are_no_options_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phd_daemon.config.load.DEFAULT_PATH", tmp_path / "none.toml")
    with pytest.raises(ConfigurationError):
        options_file(load_config(None))
