"""What no other command can undo is asked about on a terminal; scripts and timers, which have none, go on as ever."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.spool.status_file import JobStatus, LiveProgress, write_status
from restore_core.errors import ExitCode

Say = pytest.CaptureFixture[str]


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    (folder / ".state").mkdir(parents=True)
    (tmp_path / "roots/A").mkdir(parents=True)
    config = tmp_path / "phd.toml"
    config.write_text(f'[queue]\nspool = "{folder}"\n[datastores]\nroots = ["{tmp_path}/roots"]\n')
    monkeypatch.setenv("PHD_CONFIG", str(config))
    for name in ("a.done", "a.log", "b.failed", "b.log", "c.failed", "d.job", "e.log"):
        (folder / name).write_text("x" * 10)
    return folder


def names(spool: Path) -> list[str]:
    return sorted(entry.name for entry in spool.iterdir() if entry.name != ".state")


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(text))


ALL = ["a.done", "a.log", "b.failed", "b.log", "c.failed", "d.job", "e.log"]


def test_clean_shows_on_a_terminal_what_goes_and_how_much_before_it_asks(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    type_in(monkeypatch, "y\n")
    assert run(["clean"]) == ExitCode.DONE
    said = capsys.readouterr()
    assert [line.split()[:5] for line in said.out.splitlines()[1:4]] == [
        ["done", "1", "a"],
        ["failed", "2", "b,", "c"],
        ["only", "a", "log", "1", "e"],
    ]
    assert "Remove 4 jobs with the logs, 60 bytes? [y/N]" in said.err
    assert names(spool) == ["d.job"]


@pytest.mark.parametrize("typed", ["\n", "n\n", ""])
@pytest.mark.parametrize("command", [["clean"], ["clean", "b"], ["clean", "--older-than", "0"]])
def test_clean_removes_nothing_on_a_terminal_without_a_yes(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say, typed: str, command: list[str]
) -> None:
    type_in(monkeypatch, typed)
    assert run(command) == ExitCode.INTERRUPTED
    assert "nothing was removed" in capsys.readouterr().err
    assert names(spool) == ALL


@pytest.mark.parametrize(
    "command", [["clean", "--yes"], ["clean", "--yes", "--older-than", "0"], ["clean", "--yes", "a", "b", "c", "e"]]
)
def test_clean_with_yes_asks_nothing_on_a_terminal(spool: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    type_in(monkeypatch, "")
    assert run([*command, "--yes"]) == ExitCode.DONE
    assert names(spool) == ["d.job"]


def test_clean_without_a_terminal_goes_on_as_scripts_of_today_expect(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["clean", "--quiet"]) == ExitCode.DONE
    assert names(spool) == ["d.job"]


def test_clean_removes_what_was_shown_and_not_what_ended_while_the_question_stood(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    def answer(_: str) -> str:
        os.rename(spool / "d.job", spool / "d.failed")
        return "y"

    type_in(monkeypatch, "")
    monkeypatch.setattr("click.termui.visible_prompt_func", answer)
    assert run(["clean"]) == ExitCode.DONE
    assert names(spool) == ["d.failed"]
    capsys.readouterr()


def test_cancel_asks_before_it_stops_a_job_that_runs_and_never_for_one_that_waits(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    line = LiveProgress(phase="restoring", percent=67.2, done=1, total=2, rate=1.0, elapsed=1.0, remaining=1.0, line="")
    (spool / "r.running").write_text("")
    status = JobStatus(
        job="r", state="running", submitter="", delta="", restore_to="", priority=5, note="", accepted_at=1.0, progress=line
    )
    write_status(spool / "r.status", status, durable_now=False)
    type_in(monkeypatch, "n\n")
    assert run(["cancel", "d", "r"]) == ExitCode.INTERRUPTED
    said = capsys.readouterr().err
    assert "Cancel r (67%), which runs? What was written so far is removed. [y/N]" in said
    assert "no job was cancelled" in said
    assert {"r.running", "d.job"} <= set(names(spool))
    assert run(["cancel", "d"]) == ExitCode.DONE
    assert run(["cancel", "--yes", "r"]) == ExitCode.DONE
    assert {"r.cancelled", "d.cancelled"} <= set(names(spool))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["recover", "/x/D.vmdk", "--as-it-is"], "Give /x/D.vmdk up as it lies?"),
        (["datastores", "accept", "A"], "Is what is mounted at A now the disk to restore to?"),
        (["datastores", "forget", "A"], "Forget which disk A was?"),
    ],
)
def test_what_gives_a_safeguard_up_is_asked_about_on_a_terminal(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say, command: list[str], said: str
) -> None:
    type_in(monkeypatch, "n\n")
    assert run(command) == ExitCode.INTERRUPTED
    assert said in capsys.readouterr().err
    assert not (spool / ".state/.datastores.json").exists()
