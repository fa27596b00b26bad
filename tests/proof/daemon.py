"""The real `phd daemon` over a folder, with real workers; planted bugs reach it through the environment that it inherits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from phd_daemon.spool.layout import FINAL, State, parse_name
from phd_daemon.spool.status_file import JobStatus, read_status
from tests.proof.scoreboard import ROOT

PHD = Path(sys.executable).with_name("phd")
FAKED = ROOT / "tests" / "phd_daemon" / "daemon_process.py"
PATIENCE = 60.0


class Silent(Exception):
    """Something did not come in time; what is there instead stands in the text."""


class Daemon:
    """An installation below `folder`. `targets` and `more` are TOML."""

    def __init__(
        self, folder: Path, targets: str, *, spool: Path | None = None, queue: str = "workers = 1", more: str = ""
    ) -> None:
        self.folder = folder
        self.spool = spool or folder / "spool"
        self.datastore = folder / "volumes" / "ds"
        self.state = folder / "state"
        self.ledger = folder / "ledger" / "restored.log"
        for path in (self.spool, self.datastore, self.ledger.parent):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = folder / "phd.toml"
        self.settings.write_text(
            f'state_dir = "{self.state}"\n[queue]\nspool = "{self.spool}"\n{queue}\n'
            f'[replication]\nrules = "{folder}/vmdks.auto"\nledger = "{self.ledger}"\n'
            f'[datastores]\nroots = ["{folder}/volumes"]\n{targets}{more}'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def up(self, *, wrap: tuple[str, ...] = (), environment: Mapping[str, str] | None = None, fake: bool = False) -> None:
        """Start it and wait until it serves. `fake`: its workers restore nothing and say that they did."""
        program = [sys.executable, str(FAKED)] if fake else [str(PHD), "daemon", "--config"]
        said = len(self.said().split('"event": "ready"'))
        with (self.folder / "daemon.said").open("ab") as out:
            self.process = subprocess.Popen(
                [*wrap, *program, str(self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environment or {})},
            )
        self.until(lambda: len(self.said().split('"event": "ready"')) > said, "ready")

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self.process is not None and self.process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop or kill it."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(120)

    def said(self) -> str:
        """Its own log."""
        path = self.folder / "daemon.said"
        return path.read_text(errors="replace") if path.exists() else ""

    def drop(self, name: str, delta: object, *, disk: str = "", more: str = "", state: str = "job") -> None:
        """A control file, renamed into place."""
        aside = self.spool / f".{name}.new"
        aside.write_text(f'delta = "{delta}"\nrestore_to = "{self.datastore}/{disk or name}.img"\n{more}')
        aside.rename(self.spool / f"{name}.{state}")

    def disk(self, name: str) -> bytes | None:
        """The bytes under a final name."""
        path = self.datastore / f"{name}.img"
        return path.read_bytes() if path.exists() else None

    def state_of(self, name: str) -> State | None:
        """By the names in the spool."""
        found = [parsed[1] for entry in os.listdir(self.spool) if (parsed := parse_name(entry)) and parsed[0] == name]
        return found[0] if found else None

    def status(self, name: str) -> JobStatus | None:
        """Its status file."""
        return read_status(self.spool / f"{name}.status")

    def why(self, name: str) -> str:
        """The reason of its last outcome."""
        status = self.status(name)
        return status.outcome.reason if status and status.outcome else ""

    def log(self, name: str) -> str:
        """The job's log."""
        path = self.spool / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, true: Callable[[], bool], what: str, *, seconds: float = PATIENCE) -> None:
        """Wait; `Silent` if it does not come."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end or not self.alive:
                names = sorted(os.listdir(self.spool))[:20]
                raise Silent(f"not {what}; daemon {'up' if self.alive else 'gone'}; {names}; it says {self.said()[-300:]!r}")
            time.sleep(0.02)

    def ends(self, name: str, *, seconds: float = PATIENCE) -> State:
        """Wait for a final state."""
        self.until(lambda: self.state_of(name) in FINAL, f"{name} at its end", seconds=seconds)
        state = self.state_of(name)
        if state is None:
            raise Silent(f"{name} is gone")
        return state


@contextlib.contextmanager
def serving(
    daemon: Daemon, *, wrap: tuple[str, ...] = (), environment: Mapping[str, str] | None = None, fake: bool = False
) -> Iterator[Daemon]:
    """A daemon that is up, and gone afterwards with its workers."""
    daemon.up(wrap=wrap, environment=environment, fake=fake)
    try:
        yield daemon
    finally:
        if daemon.alive:
            daemon.end()
        for status in daemon.spool.glob("*.status"):
            found = read_status(status)
            if found and found.pid and _is_worker(found.pid):
                os.kill(found.pid, signal.SIGKILL)


def _is_worker(pid: int) -> bool:
    try:
        return b"phd_daemon.worker.attempt" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
