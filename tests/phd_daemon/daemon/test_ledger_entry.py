"""A job of a rule is in the ledger before it is called done, exactly once, whatever crashes in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.daemon.ends import enter
from phd_daemon.spool.keeper import Keeper
from phd_daemon.spool.status_file import Result
from restore_core import durable
from restore_core.replication.ledger import read_ledger
from tests.phd_daemon.spool.desk import Desk, control

JOB = "auto-CRM-2026.03.01-0300-0123456789"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "restored.log"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path) -> Desk:
    ledger.parent.mkdir()
    desk = Desk(tmp_path / "spool", monkeypatch)

    def restart() -> None:
        desk.keeper = Keeper(
            desk.spool,
            ended=lambda record: desk.ended.append(record.stem),
            tick=lambda: None,
            enter=lambda record, finished: enter(record, finished, ledger),
        )

    monkeypatch.setattr(desk, "restart", restart)
    desk.restart()
    return desk


def run(desk: Desk, stem: str, result: Result = Result.DONE) -> None:
    desk.drop(f"{stem}.job", control("crm"))
    desk.round()
    desk.start(stem)
    desk.finish(stem, result)


def test_a_done_job_of_a_rule_is_entered(desk: Desk, ledger: Path) -> None:
    run(desk, JOB)
    desk.round()
    assert desk.names() == [f"{JOB}.done"]
    (line,) = read_ledger(ledger).lines
    assert (str(line.archive), line.destination, line.job) == ("/backups/crm.phd", Path("/vmfs/volumes/ds1/crm.vmdk"), JOB)
    assert line.time.timestamp() == int(desk.status(JOB).finished_at or 0)


@pytest.mark.parametrize("result", [Result.FAILED, Result.TRY_AGAIN, Result.STOPPED])
def test_nothing_but_a_done_one_is(desk: Desk, ledger: Path, result: Result) -> None:
    run(desk, JOB, result)
    desk.round()
    assert not ledger.exists()


def test_a_persons_own_job_is_not(desk: Desk, ledger: Path) -> None:
    run(desk, "crm")
    desk.round()
    assert desk.names() == ["crm.done"]
    assert not ledger.exists()


@pytest.mark.parametrize("crash_before", range(1, 5))
def test_a_crash_between_outcome_and_end_enters_it_once(
    desk: Desk, ledger: Path, monkeypatch: pytest.MonkeyPatch, crash_before: int
) -> None:
    """The daemon dies at the n-th durable step of an end; the next one carries it to its end."""
    run(desk, JOB)

    class Crash(BaseException):
        pass

    steps = 0

    def counted(real: object) -> object:
        def step(*arguments: object, **keys: object) -> object:
            nonlocal steps
            steps += 1
            if steps == crash_before:
                raise Crash
            return real(*arguments, **keys)  # type: ignore[operator]  # a function of durable

        return step

    with monkeypatch.context() as broken:
        for name in ("append_line", "write_whole", "move"):
            broken.setattr(durable, name, counted(getattr(durable, name)))
        with pytest.raises(Crash):
            desk.round()
    assert (f"{JOB}.done" not in desk.names()) or read_ledger(ledger).lines
    desk.restart()
    desk.round()
    assert desk.names() == [f"{JOB}.done"]
    assert len(read_ledger(ledger).lines) == 1


def test_while_the_ledger_cannot_be_written_it_is_not_called_done(desk: Desk, ledger: Path) -> None:
    os.rmdir(ledger.parent)
    run(desk, JOB)
    assert desk.round().after is not None
    assert desk.names() == [f"{JOB}.running"]
    assert desk.keeper.busy() == ()  # it keeps no other job from its turn
    ledger.parent.mkdir()
    desk.round()
    assert desk.names() == [f"{JOB}.done"]
    assert len(read_ledger(ledger).lines) == 1


def test_a_line_that_was_deleted_stays_deleted(desk: Desk, ledger: Path) -> None:
    run(desk, JOB)
    desk.round()
    ledger.unlink()
    desk.restart()
    desk.round()
    assert not ledger.exists()


def test_the_same_restore_again_is_a_line_of_its_own(desk: Desk, ledger: Path) -> None:
    run(desk, JOB)
    desk.round()
    ledger.write_text("# looked through by hand\n")
    run(desk, JOB)
    desk.round()
    assert desk.names() == [f"{JOB}.done", f"{JOB}.~1.done"]
    assert len(read_ledger(ledger).lines) == 1
