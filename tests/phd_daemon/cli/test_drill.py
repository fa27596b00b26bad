"""`phd drill`: what is asked for wrongly is refused, the list shows what is kept, and exit codes are for monitoring."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.drill.kept_drills import DrillFolder
from phd_daemon.drill.verdict import DrillOutcome, DrillStep
from phd_daemon.operations.drill import drill_exit_code
from restore_core.errors import ExitCode
from tests.phd_daemon.drill.a_drill import DRILL


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "phd.toml"
    path.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    return path


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "one of them"),
        (["CRM", "--random"], "one of them"),
        (["--random", "--uuid", "x"], "cannot be used with --random"),
        (["nas1:a/b.phd", "--at", "3d"], "cannot be used with a DELTA"),
        (["CRM", "--serial-text", "("], "regular expression"),
        (["CRM", "--serial-text", "x*"], "fits nothing at all"),
    ],
)
def test_what_means_nothing_is_refused(config: Path, capsys: pytest.CaptureFixture[str], asked: list[str], said: str) -> None:
    assert run(["drill", "--config", str(config), *asked]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not (config.parent / "state").exists()


def test_the_list_shows_each_drill_with_its_verdict(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drill", "--config", str(config), "--list"]) == ExitCode.DONE
    assert "no drill is recorded" in capsys.readouterr().err
    folder = DrillFolder(config.parent / "state")
    with folder.work() as work:
        (work / "screen.png").write_bytes(b"png")
        folder.keep(replace(DRILL, vm="CR\x1bM"), picture=work / "screen.png", serial=b"")
    assert run(["drill", "--config", str(config), "--list"]) == ExitCode.DONE
    assert "CR%1BM  2026-11-29 03:00  passed" in capsys.readouterr().out
    assert run(["drill", "--config", str(config), "--list", "--json"]) == ExitCode.DONE
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["vm"], shown["verdict"], shown["serial"]) == ("CR%1BM", "passed", "")
    assert Path(shown["picture"]).read_bytes() == b"png"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(DrillOutcome.PASSED, 0), (DrillOutcome.NOT_PROVEN, 1), (DrillOutcome.FAILED, 65), (DrillOutcome.SKIPPED, 1)],
)
def test_the_exit_code_is_the_verdict(outcome: DrillOutcome, code: int) -> None:
    assert drill_exit_code(replace(DRILL, steps=(DrillStep(name="boot", outcome=outcome, reason=""),))) == code
