"""A spool in a folder of its own, with a keeper and no daemon; workers are played by the test, lock and all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from phd_daemon.daemon.logs import log_event
from phd_daemon.spool import keeper as keeper_module
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.events import Event
from phd_daemon.spool.intake import IntakeRules
from phd_daemon.spool.keeper import Keeper, Round, WorkerEnd
from phd_daemon.spool.layout import Spool, State, parse_name
from phd_daemon.spool.record import JobRecord, read_record
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, read_status, write_status

TEXT = b'delta = "/backups/crm.phd"\nrestore_to = "/vmfs/volumes/ds1/crm.vmdk"\n'
CODES = {Result.DONE: 0, Result.FAILED: 65, Result.TRY_AGAIN: 69, Result.CANCELLED: 130, Result.STOPPED: 130}


def control(name: str = "crm", **keys: object) -> bytes:
    lines = [f'delta = "/backups/{name}.phd"', f'restore_to = "/vmfs/volumes/ds1/{name}.vmdk"']
    return "\n".join([*lines, *(f"{key} = {str(value).lower()}" for key, value in keys.items()), ""]).encode()


class Desk:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.outside = folder.parent / (folder.name + "-outside")
        for path in (folder, self.outside, folder / ".state"):
            path.mkdir(mode=0o700)
        self.spool = Spool(folder=folder)
        self.policy = IntakeRules(validate=lambda text, _who: parse_control_file(text), submitters=("root",))
        self.still = 10.0
        self.locks: dict[str, int] = {}
        self.ended: list[str] = []
        self.events: list[Event] = []
        monkeypatch.setattr(keeper_module, "_still", lambda _watched: self.still)
        self.restart()

    def restart(self) -> None:
        """The daemon died and came back; workers live on."""
        self.keeper = Keeper(self.spool, ended=lambda record: self.ended.append(record.stem), tick=lambda: None, on_event=self.hear)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        log_event(event)

    def drop(self, name: str, text: bytes = TEXT) -> None:
        """Rename a complete file into place."""
        source = self.outside / "new"
        source.write_bytes(text)
        os.replace(source, self.folder / name)

    def mv(self, source: str, to: str) -> None:
        os.rename(self.folder / source, self.folder / to)

    def rm(self, name: str) -> None:
        os.unlink(self.folder / name)

    def round(self) -> Round:
        return self.keeper.round(self.policy)

    def start(self, stem: str = "crm") -> int:
        """Claim the job as the daemon does; the test is its worker. Returns the attempt."""
        claim = self.keeper.claim(stem)
        assert claim is not None
        self.locks[stem] = claim.lock_fd
        return claim.record.attempt

    def finish(self, stem: str = "crm", result: Result | None = Result.DONE, *, how: str = "") -> None:
        """The worker writes its outcome (none if it is None) and dies."""
        status, record = self.status(stem), self.record(stem)
        if result is not None:
            outcome = Outcome(
                attempt=record.attempt, result=result, exit_code=CODES[result], reason="as played", finished_at=time.time()
            )
            write_status(self.spool.status(stem), status.with_(outcome=outcome), durable_now=False)
        os.close(self.locks.pop(stem))
        if how:
            self.keeper.worker_ended(stem, WorkerEnd(how=how, stop_asked=False))

    def names(self) -> list[str]:
        """The control files, in order."""
        return sorted(name for name in os.listdir(self.folder) if parse_name(name) is not None)

    def files(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if name != ".state")

    def log(self, stem: str = "crm") -> str:
        path = self.spool.log(stem)
        return path.read_text() if path.exists() else ""

    def status(self, stem: str = "crm") -> JobStatus:
        status = read_status(self.spool.status(stem))
        assert status is not None
        return status

    def record(self, stem: str = "crm") -> JobRecord:
        record = read_record(self.spool.record(stem))
        assert isinstance(record, JobRecord)
        return record

    def has(self, stem: str, state: State) -> bool:
        return os.path.lexists(self.spool.control(stem, state))
