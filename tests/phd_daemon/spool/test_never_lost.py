"""Random drops, hands, workers and restarts: a complete control file is never lost and never runs twice at once.

The model knows only this: which texts were dropped, and which of them a person destroyed (removed, or overwrote with
`mv`). Every other one lies in the spool in exactly one control file, at every moment.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from phd_daemon.spool.access import user_name
from phd_daemon.spool.layout import State
from phd_daemon.spool.locks import lock_is_held
from phd_daemon.spool.record import JobRecord, read_record
from phd_daemon.spool.requests import set_priority
from phd_daemon.spool.status_file import Result, read_status
from restore_core.errors import BadControlFile, UsageError
from tests.phd_daemon.spool.desk import Desk, control

STEMS = ("a", "b")
stems = st.sampled_from(STEMS)
states = st.sampled_from(list(State))
numbers = st.integers(0, 9)
results = st.sampled_from([*Result, None])
ME = user_name(os.geteuid())


class Hands(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.desk = Desk(self.root / "spool", self.patch)
        self.numbers = itertools.count()
        self.alive: set[bytes] = set()
        self.gone: set[bytes] = set()

    def teardown(self) -> None:
        for fd in self.desk.locks.values():
            os.close(fd)
        self.patch.undo()
        shutil.rmtree(self.root)

    def destroyed(self, name: str) -> None:
        """A person is about to destroy what lies under this name."""
        path = self.desk.folder / name
        if path.exists():
            self.destroyed_text(path.read_bytes())

    def destroyed_text(self, text: bytes) -> None:
        self.alive.discard(text)
        self.gone.add(text)

    @rule(stem=stems)
    def drop(self, stem: str) -> None:
        text = control(f"n{next(self.numbers)}")
        self.destroyed(f"{stem}.job")
        self.desk.drop(f"{stem}.job", text)
        self.alive.add(text)

    @rule(stem=stems)
    def drop_nonsense(self, stem: str) -> None:
        text = f"nonsense {next(self.numbers)}".encode()
        self.destroyed(f"{stem}.job")
        self.desk.drop(f"{stem}.job", text)
        self.alive.add(text)

    @rule(number=numbers, to=states)
    def move(self, number: int, to: State) -> None:
        names = self.desk.names()
        if names:
            source = names[number % len(names)]
            stem = source.rpartition(".")[0]
            if source != f"{stem}.{to.value}":
                self.destroyed(f"{stem}.{to.value}")
                self.desk.mv(source, f"{stem}.{to.value}")

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        if number < len(self.desk.names()):
            name = self.desk.names()[number]
            self.destroyed(name)
            self.desk.rm(name)

    @rule(stem=stems, priority=numbers)
    def another_priority(self, stem: str, priority: int) -> None:
        path = self.desk.folder / f"{stem}.job"
        before = path.read_bytes() if path.exists() else b""
        with contextlib.suppress(UsageError, BadControlFile):
            set_priority(self.desk.folder, stem, priority)
            self.destroyed_text(before)
            self.alive.add(path.read_bytes())

    @rule()
    def look(self) -> None:
        self.desk.round()

    @rule(meanwhile=st.sampled_from([None, None, *STEMS]))
    def start(self, meanwhile: str | None) -> None:
        ready = self.desk.round().ready
        if meanwhile is not None:  # a person is quicker than the claim
            self.drop(meanwhile)
        for record in ready:
            free = record.stem not in self.desk.locks
            claim = self.desk.keeper.claim(record.stem)
            if claim is not None:
                assert free, "a second worker for a job that has one"
                self.desk.locks[record.stem] = claim.lock_fd

    @rule(result=results)
    def finish(self, result: Result | None) -> None:
        for stem in list(self.desk.locks):
            if read_status(self.desk.spool.status(stem)) is None or not self.desk.spool.record(stem).exists():
                os.close(self.desk.locks.pop(stem))
            else:
                self.desk.finish(stem, result)

    @rule()
    def restart(self) -> None:
        self.desk.restart()

    @invariant()
    def every_text_lies_in_one_place(self) -> None:
        texts = [(self.desk.folder / name).read_bytes() for name in self.desk.names()]
        for text in self.alive:
            assert texts.count(text) == 1, f"{text!r} lies in {texts.count(text)} places: {self.desk.names()}"
        for text in self.gone:
            assert texts.count(text) <= 1

    @rule()
    def settled_is_settled(self) -> None:
        for _ in range(4):  # one that steps aside is met under its new name in the next round
            self.desk.round()
        before = self.desk.files()
        self.desk.round()
        assert self.desk.files() == before
        for name in before:
            stem, _, suffix = name.rpartition(".")
            record = read_record(self.desk.spool.record(stem))
            if isinstance(record, JobRecord) and record.state.final and record.state.value == suffix:
                status = read_status(self.desk.spool.status(stem))
                assert status is None or status.outcome is not None, f"{name} has no reason"
            if suffix == "running":
                assert lock_is_held(self.desk.spool.lock(stem)), f"{name} and nobody is at it"


TestHands = Hands.TestCase
TestHands.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
