"""What a start tells: a datastore that jobs wait for is reported when it is lost and when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.config.load import parse_config
from phd_daemon.daemon.children import Workers
from phd_daemon.daemon.loop import Guard
from phd_daemon.daemon.starts import Starts
from phd_daemon.spool.events import BugFound, DatastoreBack, DatastoreLost, Event, JobNotStarted, JobStarted
from tests.phd_daemon.spool.desk import TEXT, Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


@pytest.fixture
def look(desk: Desk, tmp_path: Path) -> Iterator[Callable[[], list[Event]]]:
    """One look at the queue; the events that it brings."""
    (tmp_path / "volumes" / "ds1").mkdir(parents=True)
    text = f'[queue]\nspool = "{desk.folder}"\n[datastores]\nroots = ["{tmp_path}/volumes"]\n'
    config = parse_config(text.encode(), tmp_path / "phd.toml")
    told: list[Event] = []
    workers = Workers(["/bin/true"])
    starts = Starts(desk.spool, workers, watch=lambda _: None, guarded=Guard(told.append), on_event=told.append)

    def look() -> list[Event]:
        told.clear()
        starts.start_what_can(config, desk.keeper, desk.round().ready)
        return list(told)

    desk.drop("crm.job", TEXT.replace(b"/vmfs", str(tmp_path).encode()))
    yield look
    for worker in workers.all():
        assert worker.child is not None
        worker.child.wait()
        worker.close()


def test_a_datastore_is_lost_and_back(look: Callable[[], list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phd_daemon.host.datastores.why_away", lambda *_: "not mounted")
    assert look() == [DatastoreLost(datastore=tmp_path / "volumes" / "ds1", why="not mounted")]
    assert look() == []
    monkeypatch.setattr("phd_daemon.host.datastores.why_away", lambda *_: "")
    back, started = look()
    assert (back, type(started)) == (DatastoreBack(datastore=tmp_path / "volumes" / "ds1"), JobStarted)


def test_a_worker_that_cannot_be_started(look: Callable[[], list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("planted")

    def faulty(*_: object) -> None:
        raise error

    monkeypatch.setattr("phd_daemon.daemon.starts.work_order", faulty)
    bug, waits = look()
    assert bug == BugFound(error=error, message="a bug of ours; the others go on", name="crm")
    assert waits == JobNotStarted(name="crm", why="no worker could be started: a bug of ours: RuntimeError: planted")
