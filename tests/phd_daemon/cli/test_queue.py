"""`phd queue`: what lies in the spool, for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.spool.status_file import JobStatus, LiveProgress, Outcome, Result, write_status
from restore_core.errors import ExitCode

Say = pytest.CaptureFixture[str]


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    (folder / ".state").mkdir(parents=True)
    config = tmp_path / "phd.toml"
    config.write_text(f'[queue]\nspool = "{folder}"\n')
    monkeypatch.setenv("PHD_CONFIG", str(config))
    return folder


def job(
    spool: Path, name: str, state: str, *, suffix: str, outcome: Outcome | None = None, progress: LiveProgress | None = None
) -> None:
    status = JobStatus(
        job=name,
        state=state,
        submitter="ron",
        delta="nas1:a/b.phd",
        restore_to=f"/vmfs/volumes/A/{name}.vmdk",
        priority=3,
        note="by phone",
        accepted_at=1_800_000_000.0,
        started_at=1_800_000_060.0 if progress else None,
        finished_at=1_800_000_120.0 if outcome else None,
        outcome=outcome,
        progress=progress,
    )
    write_status(spool / f"{name}.status", status, durable_now=False)
    (spool / f"{name}.{suffix}").write_text("")


def fill(spool: Path) -> None:
    line = "Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 04:14s"
    progress = LiveProgress(phase="restoring", percent=31.7, done=1, total=2, rate=3.0, elapsed=4.0, remaining=5.0, line=line)
    job(spool, "runs", "running", suffix="running", progress=progress)
    job(spool, "waits", "waiting", suffix="job")
    failed = Outcome(attempt=1, result=Result.FAILED, exit_code=65, reason="block 7 differs\n  Use another copy.", finished_at=1.0)
    job(spool, "broke", "failed", suffix="failed", outcome=failed)


def test_the_table(spool: Path, capsys: Say) -> None:
    fill(spool)
    assert run(["queue"]) == 0
    said = capsys.readouterr()
    titles, *rows = said.out.splitlines()
    assert titles.split() == ["JOB", "STATE", "PRIO", "BY", "SINCE", "TO", "WHAT"]
    assert [row.split()[:4] for row in rows] == [
        ["runs", "running", "3", "ron"],
        ["waits", "waiting", "3", "ron"],
        ["broke", "failed", "3", "ron"],
    ]
    assert "Delta: 67% Full: 32%" in rows[0]
    assert rows[1].endswith("[by phone]")
    assert "block 7 differs. Use another copy." in rows[2]
    assert "no daemon serves the spool" in said.err


def test_for_programs(spool: Path, capsys: Say) -> None:
    fill(spool)
    assert run(["queue", "--json"]) == 0
    first, _, last = json.loads(capsys.readouterr().out)
    assert (first["name"], first["state"], first["progress"]["percent"]) == ("runs", "running", 31.7)
    assert (last["state"], last["exit_code"], last["submitter"]) == ("failed", 65, "ron")


def test_an_empty_queue_and_no_queue(spool: Path, capsys: Say) -> None:
    assert run(["queue"]) == 0
    assert capsys.readouterr() == ("the queue is empty\n", "")
    assert run(["queue", "--watch", "--json"]) == ExitCode.USAGE
    (spool / ".state").rmdir()
    spool.rmdir()
    assert run(["queue"]) == ExitCode.CONFIGURATION
    assert str(spool) in capsys.readouterr().err


def test_watch_shows_changes_until_control_c(spool: Path) -> None:
    command = [sys.executable, "-m", "phd_daemon.cli.main", "queue", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as child:
        assert child.stdout is not None
        assert [child.stdout.readline(), child.stdout.readline()] == [b"\n", b"the queue is empty\n"]
        (spool / "crm.job").write_text("")
        assert [child.stdout.readline().split()[:1] for _ in range(3)] == [[], [b"JOB"], [b"crm"]]
        child.send_signal(2)
        _, said = child.communicate()
    assert (child.returncode, said) == (0, b"")


def test_names_in_the_folder_are_anybodys(spool: Path, capsys: Say) -> None:
    (spool / "a\x1b[31m\nb.job").write_text("")
    os.utime(spool / "a\x1b[31m\nb.job", (time.time() + 900, time.time() + 900))
    assert run(["queue"]) == 0
    (_, row) = capsys.readouterr().out.splitlines()
    assert row.startswith("a%1B[31m%0Ab  waiting")
    assert "scheduled, waits until" in row


def test_a_file_that_is_never_read_is_named_to_whoever_looks_at_the_queue(spool: Path, capsys: Say) -> None:
    (spool / "esx.JOB").write_text("")
    (spool / "crm.job~").write_text("")
    (spool / "folder.txt").mkdir()
    assert run(["queue"]) == 0
    said = capsys.readouterr()
    assert said.out == "the queue is empty\n"
    assert said.err.splitlines() == [
        "phd: esx.JOB in the spool is never read: a control file is called esx.job, in small letters and with nothing after it"
    ]
