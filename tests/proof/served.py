"""An installation served by the real daemon in a process of its own, with real workers that leave a witness.

As a program (`python -m tests.proof.served daemon PHD.TOML`, `... worker`) it is that daemon, whose patience is a harness's, and
that worker: before anything else it takes a lock that no other worker of its job may hold. Names of jobs may ask for a
fault: `kill` (dies once), `stop` (stands still once).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.proof.host import Host

PATIENCE = 30.0


class Served(Host):
    """A `Host` whose queue a daemon works off."""

    daemon: subprocess.Popen[bytes] | None = None

    def up(self, *before: str) -> None:
        """Start a daemon, under the command `before` if one is given. It need not live to be ready."""
        with (self.folder / "daemon.err").open("ab") as errors:
            self.daemon = subprocess.Popen(
                [*before, sys.executable, "-m", "tests.proof.served", "daemon", str(self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def down(self, number: signal.Signals) -> None:
        """Send it a signal, and wait for its end."""
        if self.daemon is not None:
            self.daemon.send_signal(number)
            self.daemon.wait(PATIENCE)
            self.daemon = None

    def unfinished(self) -> int:
        """How many jobs have not come to an end."""
        return sum(not state.final for state in self.states().values())

    def until_finished(self) -> None:
        """Until the daemon has worked off the queue, or no job has come to its end for a while."""
        left, end = self.unfinished(), time.monotonic() + PATIENCE
        while left and time.monotonic() < end and self.daemon is not None and self.daemon.poll() is None:
            time.sleep(0.05)
            if (now := self.unfinished()) < left:
                left, end = now, time.monotonic() + PATIENCE

    def two_at_once(self) -> list[str]:
        """Jobs that ever had two workers."""
        seen = self.folder / "two-at-once"
        return sorted(set(seen.read_text().split())) if seen.exists() else []


def _daemon(settings: Path) -> int:
    from dataclasses import replace

    from phd_daemon.config.load import load_config
    from phd_daemon.daemon import children, logs, service
    from phd_daemon.daemon.systemd import Notifier
    from phd_daemon.spool import reconcile

    reconcile.DEATH_PAUSES = (0.1, 0.1)
    service.RESCAN_SECONDS = children.GRACE_SECONDS = 1.0
    config = load_config(settings)
    config = replace(config, queue=config.queue.model_copy(update={"hung_after": 3}))
    lock = service.open_spool(config)
    logs.log_to_stderr()
    command = (sys.executable, "-m", "tests.proof.served", "worker")
    notifier = Notifier(os.environ)
    return service.Service(config, lock=lock, notifier=notifier, command=command, on_event=logs.log_event).run()


def _worker() -> int:
    from phd_daemon.worker import attempt
    from phd_daemon.worker.order import from_json

    order = from_json(os.pread(0, 1 << 20, 0))
    home = Path(order.spool).parent
    witness = os.open(home / "witness" / order.job, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with (home / "two-at-once").open("a") as two:
            two.write(f"{order.job}\n")
    if order.attempt == 1 and "-kill-" in order.job:
        os.kill(os.getpid(), signal.SIGKILL)
    if order.attempt == 1 and "-stop-" in order.job:
        os.kill(os.getpid(), signal.SIGSTOP)
    return attempt.main()


if __name__ == "__main__":
    sys.exit(_daemon(Path(sys.argv[2])) if sys.argv[1] == "daemon" else _worker())
