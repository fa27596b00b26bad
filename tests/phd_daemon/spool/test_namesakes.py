"""Two control files of one name, in any two states: both come to an end, and what a message advises can be done."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from pathlib import Path

import pytest

from phd_daemon.spool import requests
from phd_daemon.spool.layout import FINAL, State, parse_name
from restore_core.errors import UsageError
from tests.phd_daemon.spool.desk import Desk, control

ACTIVE = [State.WAITING, State.HELD, State.RUNNING]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


def run_everything(desk: Desk) -> list[str]:
    """The disks of all that ran until nothing moves any more; held ones are released by the name they have."""
    ran: list[str] = []
    for _ in range(10):
        for record in desk.round().ready:
            if record.stem not in desk.locks:
                desk.start(record.stem)
                assert record.control is not None
                ran.append(record.control.restore_to.stem)
                desk.finish(record.stem)
        desk.round()
        for name in desk.names():
            parsed = parse_name(name)
            assert parsed is not None
            if parsed[1] is State.HELD:
                release(desk, parsed[0])
    return ran


def release(desk: Desk, stem: str) -> None:
    """`phd release`; what the message advises is done where it cannot be."""
    remedy = ""
    try:
        requests.release(desk.folder, stem)
    except UsageError as error:
        remedy = error.remedy
    if remedy:
        advised = re.search(r"'phd (\w+) ([^']+)'", remedy)
        assert advised, remedy
        getattr(requests, advised[1])(desk.folder, shlex.split(advised[2])[-1])
        requests.release(desk.folder, stem)


def test_a_new_file_beside_a_held_one_runs_and_so_does_the_held_one(desk: Desk) -> None:
    """Neither ever ran: each waited for the other, and the advice was to let the one run first that could not."""
    desk.drop("web.job", control("first"))
    desk.round()
    desk.mv("web.job", "web.held")
    desk.round()
    desk.drop("web.job", control("second"))
    assert sorted(run_everything(desk)) == ["first", "second"]
    assert not any(parsed[1] not in FINAL for name in desk.names() if (parsed := parse_name(name)))


def test_the_held_one_keeps_its_log_and_says_its_new_name(desk: Desk) -> None:
    desk.drop("web.job", control("first"))
    desk.round()
    desk.mv("web.job", "web.held")
    desk.round()
    desk.drop("web.job", control("second"))
    desk.round()
    assert desk.names() == ["web.job", "web.~1.held"]
    assert "goes on as web.~1" in desk.log("web.~1")
    assert "first.vmdk" in desk.log("web.~1")
    assert "first.vmdk" not in desk.log("web")


@pytest.mark.parametrize("known", [(), (0,), (1,)], ids=["neither is known", "the first is", "the second is"])
@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(State, 2)))
def test_any_two(desk: Desk, one: State, other: State, known: tuple[int, ...]) -> None:
    """Every pair of states. Requests that were open are carried out once each, and nothing is left waiting."""
    places = [(one, "first"), (other, "second")]
    for which in known:
        state, name = places[which]
        desk.drop("web.job", control(name))
        desk.round()
        if state is not State.WAITING:
            if state in (State.RUNNING, State.DONE):
                desk.start("web")
                desk.round()
            if state is State.DONE:
                desk.finish("web")
                desk.round()
            else:
                desk.mv("web.running" if state is State.RUNNING else "web.job", f"web.{state.value}")
            if state is State.RUNNING:
                os.close(desk.locks.pop("web"))  # its worker was killed
    for which, (state, name) in enumerate(places):
        if which not in known:
            desk.drop(f"web.{state.value}", control(name))
    ran = run_everything(desk)
    open_ones = [name for state, name in places if state in ACTIVE]
    assert set(open_ones) <= set(ran)
    assert len(ran) == len(set(ran))
    assert not any(parsed[1] not in FINAL for name in desk.names() if (parsed := parse_name(name))), desk.names()


@pytest.mark.parametrize("action", ["hold", "release", "cancel", "retry"])
@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(State, 2)))
def test_what_a_message_advises_can_be_done(desk: Desk, action: str, one: State, other: State) -> None:
    """The remedy named commands that were refused in their turn."""
    for state in (one, other):
        desk.drop(f"web.{state.value}", control())
    try:
        getattr(requests, action)(desk.folder, "web")
    except UsageError as error:
        for advised in re.finditer(r"'phd (clean|cancel|release|hold) ([^']+)'", error.remedy):
            command = getattr(requests, advised[1])
            names = shlex.split(advised[2])
            command(desk.folder, names if advised[1] == "clean" else names[-1])
        moved = re.search(r"\('mv (.+)' in the spool\)", error.remedy)
        if moved:
            desk.mv(*[name for name in shlex.split(moved[1]) if name != "--"])
            getattr(requests, action)(desk.folder, "web")
