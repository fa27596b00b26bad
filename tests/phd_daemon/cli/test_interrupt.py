"""^C while a server says nothing: the command ends, tries no more, and leaves nothing; a second ^C waits for nothing at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phd_daemon.cli.interrupt import interruptible
from phd_daemon.show.live import LiveReport
from restore_core.errors import ExitCode, Stopped
from restore_core.restore.request import Phase, Progress
from tests.servers import write_password
from tests.servers.line import line_to

DELTA = "s1:2007.09.20-CRM/00-CRM.vmdk.delta-2007.09.20-1601-070920-1601.phd"


COMMANDS = [["plan", DELTA, "--to", "a.vmdk"], ["restore", DELTA, "--to", "a.vmdk"], ["verify", DELTA], ["index"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_control_c_is_heeded_while_a_server_says_nothing(tmp_path: Path, command: list[str]) -> None:
    with line_to(0, "silent") as line:
        config = tmp_path / "phd.toml"
        login = f'known_hosts = "{tmp_path}/known"\npassword_file = "{write_password(tmp_path)}"\n'
        config.write_text(f'state_dir = "{tmp_path}/state"\n[targets.s1]\nurl = "sftp://u@127.0.0.1:{line.port}/x"\n{login}')
        with subprocess.Popen(
            [sys.executable, "-m", "phd_daemon.cli.main", *command, "--config", str(config)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            while not line.connections and child.poll() is None:
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate()
        assert line.connections == 1, "it went on trying"
    assert child.returncode == ExitCode.INTERRUPTED
    assert "stopping" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("a*.vmdk*"))
    assert not list((tmp_path / "state").rglob("*trouble*"))


def test_a_second_control_c_waits_for_nothing() -> None:
    with interruptible() as stop:
        stop()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_a_disk_that_is_changed_in_place_is_finished_whatever_is_pressed(capsys: pytest.CaptureFixture[str]) -> None:
    report = LiveReport()
    with interruptible() as stop:
        stop.must_go_on = report.must_go_on
        report.progress(Progress.of_stream(Phase.APPLY, done=1, total=2, started=0.0))
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
    assert "finished first" in capsys.readouterr().err
