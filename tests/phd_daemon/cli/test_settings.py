"""`phd options`: one value changes in phd.toml; comments, owner, mode and other people's edits stay; a bad value goes nowhere."""

from __future__ import annotations

import fcntl
import json
import os
import tomllib
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.config.edit import OPTIONS, SettingsFile, find
from phd_daemon.config.load import load_config
from restore_core.errors import ConfigurationError, ExitCode, TryAgainLater

Say = pytest.CaptureFixture[str]
SAMPLE = Path(__file__).resolve().parents[3] / "etc/phd/phd.toml"
TEXT = """\
# mine
[queue]   # the queue
enabled = true   # on
workers = 1                             # at most 4
# nothing more

[targets.nas1]
url = "file:///nas"   # the big one
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "phd.toml"
    path.write_text(TEXT)
    monkeypatch.setenv("PHD_CONFIG", str(path))
    return path


def test_one_value_changes_and_every_comment_stays(config: Path, capsys: Say) -> None:
    assert run(["options", "queue.workers", "2"]) == 0
    assert config.read_text() == TEXT.replace("workers = 1 ", "workers = 2 ")
    assert capsys.readouterr().out.startswith("queue.workers = 2 (was 1) in ")
    assert run(["options", "queue.enabled", "OFF"]) == 0
    assert config.read_text() == TEXT.replace("workers = 1 ", "workers = 2 ").replace("enabled = true", "enabled = false")


def test_a_key_and_a_table_that_are_not_there_are_added(config: Path) -> None:
    assert run(["options", "queue.purge_after", "2w"]) == 0
    assert run(["options", "index.max_age", "90m"]) == 0
    assert load_config(None).queue.purge_after == 14 * 86400
    assert load_config(None).index.max_age == 5400
    assert all(line in config.read_text() for line in TEXT.splitlines())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_a_key_of_the_sample_and_can_be_set_to_what_it_is(config: Path, option: object) -> None:
    text = SAMPLE.read_text()
    config.write_text(text)
    for one in SettingsFile(load_config(None)).settings():
        if one.option is option:
            assert one.in_file
            assert run(["options", one.option.name, one.value]) == 0
    assert tomllib.loads(config.read_text()) == tomllib.loads(text)


def test_more_than_two_workers_is_warned_of_and_done(config: Path, capsys: Say) -> None:
    assert run(["options", "queue.workers", "4"]) == 0
    assert "Do not run more than 2" in capsys.readouterr().err
    assert "workers = 4" in config.read_text()
    assert run(["options", "queue.workers", "2"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["queue.workers", "5"], "must be at most 4"),
        (["queue.workers", "two"], "is not a whole number"),
        (["queue.enabled", "maybe"], "neither on nor off"),
        (["replication.every", "90"], 'like "30d"'),
        (["replication.default_datastore", "ISCSI02"], "must be a path that starts with /"),
        (["queue.worker", "1"], "did you mean 'queue.workers'?"),
        (["queue.spool", "/x"], "there is no option 'queue.spool'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(config: Path, capsys: Say, arguments: list[str], said: str) -> None:
    before = os.stat(config)
    assert run(["options", *arguments]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert (os.stat(config).st_ino, config.read_text()) == (before.st_ino, TEXT)


def test_the_list_and_the_data(capsys: Say) -> None:
    assert run(["options"]) == 0
    printed = capsys.readouterr().out
    assert all(option.name in printed for option in OPTIONS)
    assert max(map(len, printed.splitlines()[:-1])) <= 100
    assert run(["options", "--json"]) == 0
    found = {one["option"]: one for one in json.loads(capsys.readouterr().out)}
    assert (found["queue.workers"]["value"], found["queue.workers"]["in_file"]) == ("1", True)
    assert (found["index.max_age"]["value"], found["index.max_age"]["in_file"]) == ("5h", False)
    assert run(["options", "replication.every"]) == 0
    assert capsys.readouterr().out == "1h\n"


def test_an_edit_meanwhile_is_not_overwritten(config: Path) -> None:
    file = SettingsFile(load_config(None))
    config.write_text(TEXT + "# a colleague was here\n")
    with pytest.raises(TryAgainLater, match="has changed since it was read"):
        file.change(find("queue.workers"), "2")
    assert config.read_text() == TEXT + "# a colleague was here\n"


def test_two_of_us_at_once(config: Path) -> None:
    file = SettingsFile(load_config(None))
    with config.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TryAgainLater):
            file.change(find("queue.workers"), "2")
    assert config.read_text() == TEXT
    assert file.change(find("queue.workers"), "2") == ()
    assert file.change(find("queue.workers"), "1") == ()  # its own change is no other's
    assert config.read_text() == TEXT


def test_mode_and_owner_stay_and_a_link_is_followed(config: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    config.rename(real)
    config.symlink_to(real)
    real.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(real, 12345, 23456)
    before = os.stat(real)
    assert run(["options", "queue.workers", "2"]) == 0
    after = os.stat(real)
    assert config.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert "workers = 2" in real.read_text()


def test_a_file_that_is_no_good_is_not_made_better_by_one_value(config: Path, capsys: Say) -> None:
    config.write_text(TEXT + "nonsense = 1\n")
    assert run(["options", "queue.workers", "2"]) == ExitCode.CONFIGURATION
    assert "nonsense" in capsys.readouterr().err


def test_dotted_and_inline_tables(config: Path) -> None:
    for text in ('queue.workers = 1 # dotted\nindex.max_age = "5h"\n', "queue = { workers = 1, enabled = false } # inline\n"):
        config.write_text(text)
        assert run(["options", "queue.workers", "2"]) == 0
        assert config.read_text() == text.replace("workers = 1", "workers = 2")


def test_without_a_file_there_is_nothing_to_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PHD_CONFIG")
    monkeypatch.setattr("phd_daemon.config.load.DEFAULT_PATH", tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match=r"there is no phd\.toml"):
        SettingsFile(load_config(None))


def test_a_datastore_that_is_none_is_warned_of(tmp_path: Path, config: Path, capsys: Say) -> None:
    config.write_text(f'[datastores]\nroots = ["{tmp_path}"]\n')
    assert run(["options", "replication.default_datastore", "/srv/elsewhere/x"]) == 0
    assert "is not a datastore" in capsys.readouterr().err
    (tmp_path / "B").mkdir()
    assert run(["daemon", "--check"]) == 0
    said = capsys.readouterr()
    assert "no mistake" in said.out
    assert f"phd options replication.default_datastore {tmp_path}/B" in said.err
    assert run(["options", "replication.default_datastore", f"{tmp_path}/A"]) == 0
    assert "does not exist now" in capsys.readouterr().err


def test_a_value_out_of_range_is_refused_with_what_to_type(config: Path, capsys: Say) -> None:
    config.write_text("[queue]\n")
    for value in ("9", "0", "many"):
        assert run(["options", "queue.workers", value]) == ExitCode.USAGE
        assert "1 to 4): phd options queue.workers VALUE" in capsys.readouterr().err


def test_an_option_is_shown_in_the_unit_it_was_set_in(config: Path, capsys: Say) -> None:
    config.write_text("[queue]\n")
    for value in ("14d", "2w", "48h", "36h", "90m", "7200s"):
        assert run(["options", "queue.purge_after", value]) == 0
        capsys.readouterr()
        assert run(["options", "queue.purge_after"]) == 0
        assert capsys.readouterr().out == f"{value}\n"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("replication.default_datastore", "/a\udcff", "holds bytes that are not UTF-8"),
        ("queue.workers", "9" * 5000, "is not a whole number of at most 18 digits"),
        ("queue.purge_after", "-5d", "no option has a value below 0"),
        ("queue.purge_after", "-5h", "no option has a value below 0"),
        ("replication.default_datastore", "/" + "a/" * 35000, "is too long"),
        ("replication.default_datastore", "/vmfs/" + "a" * 256, "is too long"),
    ],
)
def test_values_that_no_system_takes(config: Path, capsys: Say, key: str, value: str, said: str) -> None:
    assert run(["options", key, value]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert config.read_text() == TEXT


def test_spaces_before_a_number_do_not_change_it(config: Path) -> None:
    assert run(["options", "replication.storm_limit", " " * 17 + "1234 "]) == 0
    assert load_config(config).replication.storm_limit == 1234


def test_a_fifo_is_no_configuration(tmp_path: Path, capsys: Say) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert run(["options", "--config", str(tmp_path / "fifo")]) == ExitCode.CONFIGURATION
    assert "fifo: is no regular file" in capsys.readouterr().err
