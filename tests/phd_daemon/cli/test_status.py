"""`phd status`: how an installation stands, whatever is missing of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.operations.status import started_at
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.locks import PidLock
from restore_core.errors import ExitCode

Say = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("spool/.state", "state", "volumes/A", "store"):
        (tmp_path / name).mkdir(parents=True)
    file = tmp_path / "phd.toml"
    file.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[queue]\nspool = "{tmp_path / "spool"}"\n'
        f'[datastores]\nroots = ["{tmp_path / "volumes"}"]\n[targets.nas1]\nurl = "file://{tmp_path / "store"}"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(file))
    return file


def document(say: Say) -> dict[str, object]:
    found = json.loads(say.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_a_dead_daemon_needs_a_person_and_hides_nothing(config: Path, capsys: Say) -> None:
    assert run(["status"]) == ExitCode.FINDINGS
    said = capsys.readouterr().out
    assert "does not run" in said
    assert "nas1" in said
    assert str(config.parent / "volumes" / "A") in said
    assert "phd daemon" in said or "systemctl start" in said


def test_all_well_is_0_and_names_the_pid(config: Path, capsys: Say) -> None:
    lock = PidLock(Spool(folder=config.parent / "spool").daemon_lock)
    lock.acquire()
    with lock:
        assert run(["status", "--json"]) == ExitCode.DONE
    found = document(capsys)
    assert found["version"] == 1
    assert found["daemon"]["pid"] == os.getpid()  # type: ignore[index]
    assert found["needs"] == []


@pytest.mark.parametrize("mistake", ["oops oops", "[queue.wrong", "[replication]\nevrey = 3", '[targets.Bad]\nurl = "x"'])
def test_a_mistake_in_the_settings_is_said_and_the_rest_is_shown(config: Path, capsys: Say, mistake: str) -> None:
    config.write_text(config.read_text() + mistake + "\n")
    assert run(["status", "--json"]) == ExitCode.CONFIGURATION
    found = document(capsys)
    assert str(config) in str(found["problem"])
    assert found["spool"] == str(config.parent / "spool")
    assert found["queue"] is not None
    assert found["targets"]


def test_a_mistake_beside_the_spool_does_not_hide_the_spool(config: Path, capsys: Say) -> None:
    config.write_text(config.read_text().replace("[queue]\n", "[queue]\nwrokers = 2\n"))
    assert run(["status", "--json"]) == ExitCode.CONFIGURATION
    assert document(capsys)["spool"] == str(config.parent / "spool")


def test_a_missing_spool_is_named_with_the_command_that_makes_it(config: Path, capsys: Say) -> None:
    (config.parent / "spool/.state").rmdir()
    (config.parent / "spool").rmdir()
    assert run(["status"]) == ExitCode.FINDINGS
    assert f"install -d -m 0700 {config.parent / 'spool'}" in capsys.readouterr().out


def test_a_missing_state_dir_hides_nothing_else(config: Path, capsys: Say) -> None:
    (config.parent / "state").rmdir()
    assert run(["status", "--json"]) == ExitCode.FINDINGS
    found = document(capsys)
    assert found["unseen"] == []
    assert found["datastores"]


def test_a_record_of_passes_that_is_torn_is_said_and_hides_nothing(config: Path, capsys: Say) -> None:
    (config.parent / "state/passes.jsonl").write_text('{"time": "2026')
    assert run(["status", "--json"]) == ExitCode.FINDINGS
    found = document(capsys)
    assert "the last pass" in str(found["unseen"])
    assert found["queue"] is not None


def test_the_verdicts_of_the_last_pass_say_what_to_type(config: Path, capsys: Say) -> None:
    decisions = [{"verdict": "gone", "lag_seconds": 7200}, {"verdict": "ambiguous", "lag_seconds": None}]
    decisions.append({"verdict": "restore", "lag_seconds": None})
    one = {"time": "2026-11-29T06:00:00", "summary": "pass: 3 rules", "rules": 3, "decisions": decisions}
    (config.parent / "state/passes.jsonl").write_text(json.dumps({**one, "problems": [], "ledger_problems": []}) + "\n")
    assert run(["status"]) == ExitCode.FINDINGS
    said = capsys.readouterr().out
    assert "restored.log" in said
    assert "write the UUID" in said
    assert "worst lag 2 h" in said
    assert "1 to be restored" in said
    assert "last pass 2026-11-29 06:00\n" in said


def test_a_rejected_file_says_which_log_to_read(config: Path, capsys: Say) -> None:
    (config.parent / "spool/crm.rejected").write_text("x")
    assert run(["status"]) == ExitCode.FINDINGS
    assert "phd log crm" in capsys.readouterr().out


def test_a_daemon_runs_since_it_began_not_since_somebody_looked_at_it_first() -> None:
    before = time.time()
    with subprocess.Popen(["sleep", "60"]) as process:
        after = time.time()
        time.sleep(1.5)  # /proc/PID is made at the first look at it
        assert before - 0.5 <= started_at(process.pid) <= after + 0.5
        process.kill()
