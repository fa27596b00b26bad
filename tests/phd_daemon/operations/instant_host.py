"""A host whose sessions are started, restored and finished in this process; the guest is qemu-io on an overlay."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phd_daemon.config.load import load_config
from phd_daemon.operations.instant import session_finish, session_start
from phd_daemon.operations.instant.session_start import StartedSession, WantedDisk, WantedSession, start_session
from phd_daemon.spool.layout import Spool, State
from restore_core.disk.session_record import InstantSession, SessionClaim, read_session
from restore_core.restore.request import RestoreRequest
from restore_core.restore.run import restore_delta
from restore_core.targets import parse_ref
from restore_core.targets.base import ArchiveRef
from tests.host import program
from tests.lab import Lab, Witness, go_on

MIB = 1 << 20
NAMES = ("CRM.vmdk", "data.img")


class InstantHost:
    """A lab with a spool and phd.toml. The disks are `volumes/ds/vm/NAME`. With `patch` no server is started."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch | None = None) -> None:
        program("qemu-img")
        self.lab, self.folder = Lab(folder), folder
        self.sockets = Path(tempfile.mkdtemp(prefix="phd-"))
        for name in ("spool", "state", "volumes/ds/vm"):
            (folder / name).mkdir(parents=True)
        (folder / "spool").chmod(0o700)
        file = folder / "phd.toml"
        file.write_text(
            f'state_dir = "{folder / "state"}"\n[queue]\nspool = "{folder / "spool"}"\n[replication]\nenabled = false\n'
            f'[datastores]\nroots = ["{folder / "volumes"}"]\n[targets.t]\nurl = "file://{self.lab.store}"\n'
        )
        self.config = load_config(file)
        self.spool = Spool(folder=folder / "spool")
        if patch is not None:
            patch.setattr(session_start, "start_server", lambda *_: None)
            patch.setattr(session_finish, "stop_server", lambda *_: None)

    def disk(self, name: str = "CRM.vmdk") -> Path:
        return self.folder / "volumes" / "ds" / "vm" / name

    def start(self, *deltas: ArchiveRef) -> StartedSession:
        """The first Delta to CRM.vmdk, the second to data.img."""
        disks = tuple(
            WantedDisk(delta=one, path=self.disk(name)) for one, name in zip(deltas, ("CRM.vmdk", "data.img"), strict=False)
        )
        wanted = WantedSession(disks=disks, socket=self.sockets / "s.sock")
        return start_session(self.config, self.lab.targets, wanted, reporter=Witness(), stop=go_on)

    def now(self, session: InstantSession) -> InstantSession | None:
        return read_session(session.record)

    def restore(self, session: InstantSession) -> None:
        """What the jobs of the session do, without a daemon; then they are done."""
        for disk in session.disks:
            request = RestoreRequest(
                delta=parse_ref(disk.delta),
                destination=Path(disk.path),
                records=self.spool.receipts,
                session=SessionClaim(id=session.id, record=session.record),
            )
            restore_delta(request, self.lab.targets, reporter=Witness(), stop=go_on)
            job = self.spool.control(disk.job, State.WAITING)
            if job.exists():
                job.rename(self.spool.control(disk.job, State.DONE))

    def restore_as(self, request: RestoreRequest) -> None:
        """Any restore."""
        restore_delta(request, self.lab.targets, reporter=Witness(), stop=go_on)

    def finish(self, session: InstantSession) -> object:
        return session_finish.finish_session(self.config, session, stop=go_on)

    def names(self) -> set[str]:
        """Names beside the disks; a lock file and a file that never got its name may stay after a crash."""
        return {path.name for path in self.disk().parent.iterdir() if path.suffix not in (".phd-hold", ".tmp")}

    def close(self) -> None:
        shutil.rmtree(self.sockets, ignore_errors=True)


def guest_writes(overlay: Path, *writes: tuple[int, int, int]) -> None:
    """A guest writes (offset, length, byte), aligned to 64 KiB, and flushes. Its backing is never read."""
    commands = [("-c", f"write -P {byte} {offset} {length}") for offset, length, byte in writes]
    words = [word for pair in commands for word in pair]
    subprocess.run([program("qemu-io"), without_backing(overlay), *words, "-c", "flush"], check=True, capture_output=True)


def without_backing(overlay: Path) -> str:
    """The overlay for a program that must not ask for its server."""
    return "json:" + json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(overlay)}, "backing": None})


def written(data: bytes, *writes: tuple[int, int, int]) -> bytes:
    """The bytes of a disk after these writes."""
    disk = bytearray(data)
    for offset, length, byte in writes:
        disk[offset : offset + length] = bytes([byte]) * length
    return bytes(disk)


@contextmanager
def guest_is_on(overlay: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A guest that has the overlay open: a qemu-io that waits for its next command."""
    command = [program("qemu-io"), without_backing(overlay)]
    guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert guest.stdin is not None
        assert guest.stdout is not None
        guest.stdin.write(b"length\n")
        guest.stdin.flush()
        guest.stdout.readline()
        yield guest
    finally:
        guest.communicate(b"quit\n")


def step_by_step(act: Callable[[int], bool], most: int = 200) -> int:
    """Does it with a crash at the first step, the second, and so on, until it comes to its end; returns how many steps it has."""
    for number in range(1, most):
        if not act(number):
            return number - 1
    raise AssertionError("it never comes to its end")
