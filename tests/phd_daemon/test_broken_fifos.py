"""Things that are no files, under the names of logs and status files: nobody waits for them, and nothing is shown through them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.operations.follow import follow
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.purge import purge
from phd_daemon.spool.status_file import read_status
from restore_core.errors import ExitCode


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """What waits for a fifo is woken by a signal whose handler raises: a failure instead of a test that never ends."""

    def hung(*_: object) -> None:
        raise AssertionError("it waits for a fifo")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    folder = tmp_path / "spool"
    (folder / ".state").mkdir(parents=True)
    (tmp_path / "phd.toml").write_text(f'[queue]\nspool = "{folder}"\n')
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    (tmp_path / "secret").write_text("secret\n")
    return Spool(folder=folder)


def test_a_status_that_is_a_fifo(spool: Spool) -> None:
    os.mkfifo(spool.status("crm"))
    assert read_status(spool.status("crm")) is None
    assert purge(spool, older_than=60, now=1e12, busy=()) == ["crm"]


def test_a_log_that_is_a_fifo(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(spool.log("crm"))
    (spool.folder / "crm.done").write_text("x")
    assert run(["log", "crm"]) == ExitCode.DESTINATION
    assert "not a plain file" in capsys.readouterr().err
    with pytest.raises(OSError, match="not a plain file"):
        list(follow(spool, "crm"))


def test_a_log_that_is_a_link(spool: Spool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool.log("crm").symlink_to(tmp_path / "secret")
    (spool.folder / "crm.done").write_text("x")
    assert run(["log", "crm"]) != ExitCode.DONE
    assert run(["log", "-f", "crm"]) != ExitCode.DONE
    assert "secret\n" not in capsys.readouterr().out
