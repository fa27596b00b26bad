"""A whole installation below one folder, served by this process: the real door, keeper and ledger; each worker is a process.

It is the daemon's own turn, cut into its steps, so that a row can stop the world between any two of them: `settle` is what
the daemon does at every ring, `begin` what it does when it starts a job, `recover` what a new daemon does at its start.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import random
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config.load import load_config
from phd_daemon.daemon.ends import drop_part, enter
from phd_daemon.daemon.starts import work_order
from phd_daemon.host.datastores import learn_from, record_of
from phd_daemon.spool.intake import intake_rules
from phd_daemon.spool.keeper import Keeper, WorkerEnd
from phd_daemon.spool.layout import Spool, State, parse_name
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.requests import drop
from phd_daemon.spool.safety import check_spool
from phd_daemon.worker import attempt
from restore_core.disk.datastore import MARKER
from restore_core.disk.hold import HOLD_SUFFIX
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab
from tests.phd_daemon.small_backup import small_backup

DISK = "CRM.vmdk"
FLAT = "CRM-flat.vmdk"
logging.getLogger().addHandler(logging.NullHandler())
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_OURS = re.compile(r"[^/]+\.(job|held|running|done|failed|cancelled|rejected|log|status)\Z")
_STATE = re.compile(
    r"([^/]+\.(json|lock)|\.daemon\.lock|\.datastores\.json|receipts|receipts/[0-9a-f]{32}(\.next)?\.(json|digests))\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The backups of a row: a disk of yesterday, the same one today (two blocks changed, one is zero now), and one with a VMX."""

    folder: Path
    yesterday: ArchiveRef
    today: ArchiveRef
    with_vmx: ArchiveRef
    bytes_of: dict[ArchiveRef, bytes]


def stock(folder: Path, dice: random.Random, *, blocks: int = 8) -> Stock:
    """Make them below `folder`; the target is `folder/target`."""
    lab = Lab(folder)
    old = b"".join(bytes(BLOCK) if n % 3 == 2 else dice.randbytes(4096) * (BLOCK // 4096) for n in range(blocks)) + b"odd sect" * 64
    new = dice.randbytes(BLOCK) + bytes(BLOCK) + old[2 * BLOCK : 4 * BLOCK] + dice.randbytes(BLOCK) + old[5 * BLOCK :]
    yesterday, today = lab.backup(old).delta, lab.backup(new).delta
    small = small_backup(lab.store / "vmx", size=BLOCK)
    vmx = ArchiveRef(target="t", path=f"vmx/{small.delta.path}")
    return Stock(
        folder=lab.store,
        yesterday=yesterday,
        today=today,
        with_vmx=vmx,
        bytes_of={yesterday: old, today: new, vmx: small.content},
    )


class Host:
    """One installation. `stock` may lie elsewhere; everything a restore or the queue writes lies below `folder`."""

    def __init__(self, folder: Path, goods: Stock, *, queue: str = "workers = 4") -> None:
        self.folder, self.goods = folder, goods
        self.datastore = folder / "volumes" / "ds"
        self.ledger = folder / "restored.log"
        self.spool = Spool(folder=folder / "spool")
        self.settings = folder / "phd.toml"
        self.datastore.mkdir(parents=True, exist_ok=True)
        self.spool.folder.mkdir(mode=0o700, exist_ok=True)
        if not self.settings.exists():
            self.settings.write_text(
                f'state_dir = "{folder}/state"\n'
                f'[queue]\nspool = "{self.spool.folder}"\n{queue}\n'
                f'[replication]\nenabled = false\nledger = "{self.ledger}"\nrules = "{folder}/vmdks.auto"\n'
                f'[datastores]\nroots = ["{folder}/volumes"]\n'
                f'[targets.t]\nurl = "file://{goods.folder}"\n'
            )
        self.config = load_config(self.settings)
        self.policy = intake_rules(self.config)
        check_spool(self.spool)
        self.recover()

    def entered(self, job: str) -> None:
        """A job of a rule, or any other that is done, has been entered: for rows that count them."""

    def recover(self) -> None:
        """What a daemon that has just been started knows: nothing but what lies on disk."""
        self.keeper = Keeper(self.spool, ended=self._ended, tick=lambda: None, enter=self._enter)

    def _ended(self, record: JobRecord) -> None:
        drop_part(record, self.config.datastores.roots)

    def _enter(self, record: JobRecord, finished: float) -> None:
        enter(record, finished, self.ledger)
        self.entered(record.stem)

    def submit(self, name: str, delta: ArchiveRef, *, disk: str = DISK, more: str = "") -> None:
        """Queue a restore, as `phd submit` does: when this returns the job is acknowledged."""
        text = f'delta = "{delta}"\nrestore_to = "{self.datastore / disk}"\n{more}'.encode()
        if drop(self.spool, text, names=[name]) is None:
            raise AssertionError(f"{name} is taken")

    def settle(self) -> tuple[JobRecord, ...]:
        """Rounds over the spool until nothing is left to do but to run; the jobs that are ready, their back-off left out."""
        before: list[str] = []
        while True:
            names = sorted(os.listdir(self.spool.folder))
            found = self.keeper.round(self.policy, renamed_in=[name for name in names if name.endswith(".job")])
            if names == before and found.after != 0.0:
                return found.ready
            before = names

    def begin(self, job: str, *, held: bool = False, together: bool = False) -> int:
        """Claim a job and start its worker; the pid. With `held` it waits for SIGCONT before its first step.

        With `together` it dies when we die, as in a power cut.
        """
        claim = self.keeper.claim(job)
        if claim is None:
            raise AssertionError(f"{job} cannot be claimed")
        self.learn()
        order = work_order(self.config, self.spool, claim)
        sys.stdout.flush()
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _be_the_worker(order.to_json(), self.spool.log(job), held=held, parent=parent if together else 0)
        os.close(claim.lock_fd)
        return pid

    def learn(self) -> None:
        """Put the datastore on record, as the daemon does with the first job for it."""
        learn_from(self.datastore / DISK, record_of(self.config))

    def ended(self, job: str, status: int) -> None:
        """Tell the keeper how a worker ended."""
        how = (
            f"killed by signal {os.WTERMSIG(status)}"
            if os.WIFSIGNALED(status)
            else f"ended with {os.waitstatus_to_exitcode(status)}"
        )
        self.keeper.worker_ended(job, WorkerEnd(how=how, stop_asked=False))

    def run(self, job: str, *, together: bool = False) -> None:
        """One whole attempt, undisturbed."""
        self.ended(job, os.waitpid(self.begin(job, together=together), 0)[1])

    def run_all(self, *, most: int = 20, together: bool = False) -> None:
        """Go on until no job is waiting."""
        for _ in range(most):
            ready = self.settle()
            if not ready:
                return
            for record in ready:
                self.run(record.stem, together=together)
        raise AssertionError("jobs that never end")

    def states(self) -> dict[str, State]:
        """Every control file by stem."""
        return dict(filter(None, map(parse_name, os.listdir(self.spool.folder))))

    def disk(self, name: str = DISK) -> bytes | None:
        """The bytes of a disk that people can see and start; None while there is none."""
        flat = self.datastore / name.replace(".vmdk", "-flat.vmdk")
        if not (self.datastore / name).exists():
            return None
        return flat.read_bytes() if flat.exists() else b"a descriptor without its disk"

    def stray(self, *allowed: str) -> list[str]:
        """Files that nobody will ever need again: in the spool, its records, and the datastore but for `allowed`.

        An empty lock file of a disk is none: its unlink is not synced, and who holds the disk next removes it.
        """
        found = [
            str(path.relative_to(self.spool.folder))
            for path in self.spool.folder.rglob("*")
            if not (_STATE if ".state" in path.parts else _OURS).fullmatch(
                str(path.relative_to(self.spool.state_folder if ".state" in path.parts else self.spool.folder))
            )
        ]
        found = [name for name in found if name != ".state"]
        beside = [path for path in self.datastore.iterdir() if path.name not in (MARKER, *allowed)]
        return sorted(found + [path.name for path in beside if not path.name.endswith(HOLD_SUFFIX) or path.stat().st_size])


def _be_the_worker(order: bytes, log: Path, *, held: bool, parent: int) -> None:
    """The child: what `python -m phd_daemon.worker.attempt` is once it has been loaded."""
    code = 1
    try:
        os.setsid()
        if parent:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
        with contextlib.suppress(OSError):
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), 2)
        sys.stdin = io.TextIOWrapper(io.BytesIO(order))
        if held:
            os.kill(os.getpid(), signal.SIGSTOP)
        code = attempt.main()
    except BaseException:  # noqa: BLE001  the traceback is what the interpreter would print
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
