"""What is typed almost right means what it can only mean, or gets a sentence with what to type."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.spool.control_file import parse_control_file
from restore_core.errors import BadControlFile, ExitCode

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


@pytest.mark.parametrize("command", [["log"], ["hold"], ["release"], ["cancel"], ["retry"], ["clean"], ["priority"]])
def test_a_job_that_does_not_exist_gets_the_one_that_is_near(config: Path, command: list[str], capsys: Say) -> None:
    (config.parent / "spool" / "webshop.done").touch()
    more = ["1"] if command == ["priority"] else []
    assert run([*command, "webshpo", *more, "--config", str(config)]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "(did you mean 'webshop'?)" in said
    assert "It must be" not in said, "advice for a job that is there"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["rules", "add"], "there is no command 'phd rules add'; there are: check, edit, load"),
        (["targets", "trus"], "(did you mean 'trust'?); there are: accept, trust"),
        (["datastores", "list"], "there are: accept, forget"),
        (["clean", "--older-than", "x"], "'x' is not a valid number of days"),
        (["priority", "crm", "high"], "'high' is not a valid priority, 0 (first) to 9 (last)"),
    ],
)
def test_what_click_refuses_is_said_in_words_of_this_product(typed: list[str], said: str, capsys: Say) -> None:
    assert run(typed) == ExitCode.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", [["restore"], ["plan"], ["verify"], ["adopt"], ["vmx"], ["submit"]])
def test_an_archive_without_the_name_of_its_target_gets_the_form_with_it(config: Path, command: list[str], capsys: Say) -> None:
    to = [] if command[0] in {"verify", "adopt"} else ["--to", str(config.parent / "X.vmdk")]
    code = run([*command, f"{_FOLDER}/00-CRM.vmdk.gz-1.phd", *to, "--config", str(config)])
    assert code == (ExitCode.DESTINATION if command == ["submit"] else ExitCode.UNAVAILABLE)
    if command != ["submit"]:
        assert f"One on a target is written nas1:{_FOLDER}/00-CRM.vmdk.gz-1.phd" in capsys.readouterr().err


def test_a_submitted_file_that_is_not_there_is_queued_and_said(config: Path, tmp_path: Path, capsys: Say) -> None:
    (tmp_path / "ds/A").mkdir(parents=True)
    config.write_text(config.read_text() + f'[datastores]\nroots = ["{tmp_path}/ds"]\n')
    assert run(["submit", "no/such.phd", "--to", f"{tmp_path}/ds/A/X.vmdk", "--config", str(config)]) == ExitCode.DONE
    assert "One on a target is written nas1:no/such.phd" in capsys.readouterr().err
    assert (tmp_path / "spool/X.job").exists()


def test_a_wrong_time_is_refused_before_any_target_is_asked(config: Path, capsys: Say) -> None:
    (config.parent / "store").rename(config.parent / "away")
    assert run(["submit", "--vm", "CRM", "--to", "x", "--not-before", "25:00", "--config", str(config)]) == ExitCode.USAGE
    assert "'25:00' is not a time" in capsys.readouterr().err


def test_a_vm_of_which_a_target_is_silent_says_how_to_take_another_backup(config: Path, capsys: Say) -> None:
    config.write_text(config.read_text() + f'[targets.gone]\nurl = "file://{config.parent}/gone"\n')
    assert run(["submit", "--vm", "CRM", "--to", "x", "--config", str(config)]) == ExitCode.UNAVAILABLE
    assert "to take another one, name its DELTA ('phd backups --vm CRM')" in capsys.readouterr().err


def test_trust_of_a_folder_is_told_that_trust_is_for_servers(config: Path, capsys: Say) -> None:
    assert run(["targets", "trust", "nas1", "--config", str(config)]) == ExitCode.CONFIGURATION
    assert "It is a folder of this machine" in capsys.readouterr().err


def test_a_full_where_a_delta_is_wanted_is_told_as_a_gzip(config: Path, capsys: Say) -> None:
    full = config.parent / "full.gz"
    full.write_bytes(gzip.compress(bytes(4096)))
    assert run(["plan", str(full), "--to", f"{config.parent}/X.vmdk", "--config", str(config)]) == ExitCode.BAD_DATA
    assert "It is a gzip, perhaps a Full" in capsys.readouterr().err


def test_recover_and_stub_give_no_advice_that_is_not_theirs(config: Path, capsys: Say) -> None:
    folder = config.parent
    assert run(["recover", str(folder), "--config", str(config)]) == ExitCode.USAGE
    assert f"Name the disk in it: {folder}/NAME.vmdk." in capsys.readouterr().err
    assert run(["recover", f"{folder}/none.vmdk", "--config", str(config)]) == ExitCode.DESTINATION
    assert "no disk of that name is here" in capsys.readouterr().err
    (folder / "A-flat.vmdk").write_bytes(bytes(4096))
    assert run(["stub", f"{folder}/A-flat.vmdk"]) == ExitCode.DONE
    assert run(["stub", f"{folder}/A-flat.vmdk"]) == ExitCode.DESTINATION
    assert "another folder" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[queue]\nspool = spool\n", ":2: not TOML: Invalid value at column 9\n  A text is written in quotes, a path too"),
        ("[queue]\nworkers = 1\nworkers = 2\n", "This key is set twice: leave one of them out."),
        ("[queue]\n[queue]\n", "This table is there twice"),
        ('[queue]\nspool = "/a\n', "A text ends with the quote that it begins with"),
        ("x", "A line is a key, =, and its value"),
        ("[queue]\npurge_after = 30\n", 'queue.purge_after: must be a text in quotes, like "30d"'),
        ("[datastores]\nmode = 600\n", 'datastores.mode: must be a text in quotes, like "0600"'),
        ('[targets.n]\nurl = "file:///x"\nbandwidth = 40\n', 'must be a text in quotes, like "40MB/s"'),
    ],
)
def test_a_mistake_in_the_settings_is_told_with_what_to_write_instead(config: Path, text: str, said: str, capsys: Say) -> None:
    config.write_text(text)
    assert run(["queue", "--config", str(config)]) == ExitCode.CONFIGURATION
    found = capsys.readouterr().err
    assert said in found
    assert ":0:" not in found


def test_a_mistake_in_a_control_file_is_told_with_what_to_write_instead() -> None:
    with pytest.raises(BadControlFile) as raised:
        parse_control_file(b"delta = nas1:x\n")
    assert "A text is written in quotes" in raised.value.remedy


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "--vm", "CRM", "--to", "x", "--at", ""],
        ["submit", "--vm", "CRM", "--to", "x", "--uuid="],
        ["submit", "nas1:f/d.phd", "--to", "x.img", "--not-before", ""],
        ["restore", "nas1:f/d.phd", "--to", "x.img", "--full", ""],
        ["backup", "x.img", "--target", "nas1", "--at", ""],
        ["backup", "x.img", "--target", "nas1", "--vm", ""],
        ["backups", "--since", ""],
    ],
)
def test_an_option_without_a_value_is_not_taken_for_one_that_was_left_out(config: Path, words: list[str], capsys: Say) -> None:
    assert run([*words, "--config", str(config)]) == ExitCode.USAGE
    assert "is given without a value" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["restore", "--vm", "CRM", "--to", "x"], ["plan", "--vm=CRM", "--to", "x"], ["verify", "--vm", "CRM"]]
)
def test_a_vm_where_one_archive_is_wanted_gets_the_commands_for_a_vm(words: list[str], capsys: Say) -> None:
    assert run(words) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "phd submit --vm NAME --to DIR" in said
    assert "--vmx" not in said
