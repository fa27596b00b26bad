"""`phd targets trust` asks; where nobody answers nothing is recorded, and that is said."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode
from restore_core.targets.remote import trust
from restore_core.targets.remote.trust import ServerIdentity

Say = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "phd.toml").write_text(
        f'[targets.s1]\nurl = "sftp://b@127.0.0.1:1/x"\npassword_file = "{tmp_path}/p"\nknown_hosts = "{tmp_path}/k"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    shown = ServerIdentity(kind="key", fingerprint="SHA256:abc", record=b"x", file="/known", known=())
    done: list[str] = []

    def record(what: ServerIdentity) -> None:
        done.append(what.fingerprint)

    monkeypatch.setattr("phd_daemon.operations.targets.server_identity", lambda _: shown)
    monkeypatch.setattr(trust, "record", record)
    return done


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("", (ExitCode.USAGE, "standard input has ended, so nobody can answer: nothing was recorded\n  Run it on a terminal")),
        ("n\n", (ExitCode.INTERRUPTED, "s1: not trusted; nothing was recorded")),
        ("y\n", (ExitCode.DONE, "")),
    ],
)
def test_the_question(
    monkeypatch: pytest.MonkeyPatch, recorded: list[str], capsys: Say, typed: str, answer: tuple[ExitCode, str]
) -> None:
    code, said = answer
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert run(["targets", "trust", "s1"]) == code
    assert said in capsys.readouterr().err
    assert recorded == (["SHA256:abc"] if code is ExitCode.DONE else [])
