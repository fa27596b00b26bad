"""The daemon's side of a pass: started when due, heard of when it ends, stopped when it hangs, and never two at once."""

from __future__ import annotations

import logging
import select
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config
from phd_daemon.daemon.logs import log_event
from phd_daemon.replication import schedule as passes_module
from phd_daemon.replication.pass_record import last_record, record_file
from phd_daemon.replication.schedule import Passes, note_start, start_file
from phd_daemon.spool.events import Event, OnEvent, PassEnded, PassStarted, TargetBack, TargetLost, TargetPartial


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "phd.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n[replication]\nrules = "{tmp_path}/vmdks.auto"\n')
    (tmp_path / "vmdks.auto").write_text("")
    return load_config(path)


class Loop:
    """The part of the main loop that a pass needs."""

    def __init__(self, program: str, *, on_event: OnEvent = log_event) -> None:
        self.watched: list[int] = []
        command = (sys.executable, "-c", program)
        self.passes = Passes(watch=self.watched.append, unwatch=self.watched.remove, on_event=on_event, command=command)

    def until_over(self, config: Config) -> None:
        end = time.monotonic() + 60
        while self.watched:
            assert time.monotonic() < end
            select.select(self.watched, [], [], 0.1)
            self.passes.turn(config)


def test_a_pass_is_started_with_the_configuration_and_its_end_is_told(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loop = Loop(f"import sys; open({str(tmp_path / 'argv')!r}, 'w').write(sys.argv[1]); print('3 rules'); print('fine')")
    assert loop.passes.turn(config) == 1.0
    assert len(loop.watched) == 1
    note_start(start_file(config.state_dir), time.time())
    loop.until_over(config)
    assert (tmp_path / "argv").read_text() == str(tmp_path / "phd.toml")
    (record,) = [record for record in caplog.records if record.message == "replication pass"]
    assert (record.__dict__["exit_code"], record.__dict__["said"], record.levelname) == (0, "3 rules / fine", "INFO")
    due = loop.passes.turn(config)
    assert due is not None
    assert 3500 < due <= 3600
    assert loop.watched == []


def test_a_pass_that_fails_is_a_warning_with_what_it_said(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop("raise SystemExit('no\\x1b[31m ledger')")
    loop.passes.turn(config)
    loop.until_over(config)
    (record,) = [record for record in caplog.records if record.message == "replication pass"]
    assert (record.__dict__["said"], record.levelname) == ("no%1B[31m ledger", "WARNING")


def test_never_two_at_once_and_one_that_was_asked_for_comes_after(config: Config, tmp_path: Path) -> None:
    said = tmp_path / "said"
    loop = Loop(f"import time; open({str(said)!r}, 'a').write('began '); time.sleep(0.3); open({str(said)!r}, 'a').write('ended ')")
    loop.passes.turn(config)
    loop.passes.trigger(config)
    loop.passes.turn(config)
    assert len(loop.watched) == 1
    note_start(start_file(config.state_dir), time.time())
    loop.until_over(config)
    assert said.read_text() == "began ended began ended "
    assert loop.passes.turn(config) != 1.0


def test_a_pass_that_hangs_is_ended_and_then_killed(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(passes_module, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(passes_module, "_TERM_SECONDS", 0.5)
    loop = Loop("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    loop.passes.turn(config)
    loop.until_over(config)
    assert next(record.__dict__["exit_code"] for record in caplog.records if record.message == "replication pass") in (-15, -9)


def test_a_daemon_that_stops_tells_its_pass(config: Config) -> None:
    loop = Loop("import time; time.sleep(600)")
    loop.passes.turn(config)
    loop.passes.stop()
    loop.until_over(config)


def test_nothing_is_started_without_rules_or_when_it_is_off(config: Config) -> None:
    loop = Loop("pass")
    off = replace(config, replication=config.replication.model_copy(update={"enabled": False}))
    assert loop.passes.turn(off) is None
    config.replication.rules.unlink()
    assert loop.passes.turn(config) is None
    (config.state_dir / "vmdks.auto.good").write_text("")
    assert loop.passes.turn(config) == 1.0
    loop.until_over(config)


def test_a_program_that_is_not_there(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    passes = Passes(watch=lambda _: None, unwatch=lambda _: None, on_event=log_event, command=("/not/there",))
    assert passes.turn(config) == 1.0
    assert "no replication pass could be started" in caplog.text
    due = passes.turn(config)
    assert due is not None
    assert due > 50


class Standing:
    """A catalog that knows of one target."""

    def __init__(self, problem: str = "", partial: str = "") -> None:
        self.target, self.problem, self.partial, self.trouble = "nas1", problem, partial, problem or partial

    def known(self) -> list[Standing]:
        return [self]


def test_the_events_of_passes(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass brings its start, its end with its document, and what has changed of the targets."""
    told: list[Event] = []
    loop = Loop("print('pass: 3 rules')", on_event=told.append)
    standings = (Standing(), Standing(problem="no answer"), Standing(problem="no answer"), Standing(partial="in part"), Standing())
    for standing in standings:
        monkeypatch.setattr(passes_module, "catalog_of", lambda _config, now=standing: now)
        loop.passes.trigger(config)
        loop.passes.turn(config)
        record_file(config.state_dir).write_text('{"summary": "another"}\n{"summary": "pass: 3 rules", "queued": 2}\n')
        loop.until_over(config)
    of_passes = [type(event) for event in told if isinstance(event, PassStarted | PassEnded)]
    assert of_passes == [PassStarted, PassEnded] * len(standings)
    ended = next(event for event in told if isinstance(event, PassEnded))
    assert (ended.exit_code, ended.said, ended.record and ended.record["queued"]) == (0, "pass: 3 rules", 2)
    assert [event for event in told if not isinstance(event, PassStarted | PassEnded)] == [
        TargetLost(target="nas1", why="no answer"),
        TargetPartial(target="nas1", why="in part"),
        TargetBack(target="nas1"),
    ]


def test_a_pass_that_left_no_document(tmp_path: Path) -> None:
    path = record_file(tmp_path)
    for text in (None, "", "{", "[1]", "1", "{}", '{"summary": "another"}', '{"summary": 1}'):
        if text is not None:
            path.write_text(text)
        assert last_record(tmp_path, "pass: 3 rules") is None
