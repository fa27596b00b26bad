"""R34: what a guest of an instant session wrote and flushed is in its disk at the end, whoever is killed and whoever else tries."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from phd_daemon.operations.instant import session_live, session_server
from phd_daemon.operations.instant.guest_monitor import GuestMonitor
from phd_daemon.operations.instant.nbd_probe import server_pid
from phd_daemon.operations.instant.session_discard import discard_session
from phd_daemon.operations.instant.session_finish import finish_session
from phd_daemon.operations.instant.session_settle import Keep
from restore_core.disk.session_record import InstantSession, SessionState
from restore_core.errors import PhdError, TryAgainLater
from restore_core.restore.extras import write_stub
from restore_core.targets.base import ArchiveRef
from tests.lab import go_on, request_for
from tests.phd_daemon.operations.instant_guest import Guest
from tests.phd_daemon.operations.instant_host import MIB, InstantHost
from tests.proof.scoreboard import Figure, NotRun, Round, Row
from tests.restore_core.restore.crashes import dies, every_call

SIZE = 8 * MIB
STEP = 64 << 10


@dataclass(slots=True, kw_only=True)
class Case:
    """One session, and what its disk must be. `older` is another backup, for rivals."""

    host: InstantHost
    session: InstantSession
    delta: ArchiveRef
    older: ArchiveRef
    dice: random.Random
    disk: bytearray
    guest: Guest | None = None
    wrong: list[str] = field(default_factory=list)

    def writes(self) -> None:
        """The guest writes here and there, and flushes."""
        if self.guest is None:
            return
        some = []
        for _ in range(self.dice.randrange(1, 5)):
            offset, byte = self.dice.randrange(SIZE // STEP) * STEP, self.dice.randrange(1, 256)
            some.append((offset, STEP, byte))
            self.disk[offset : offset + STEP] = bytes([byte]) * STEP
        self.guest.writes(*some)

    def boot(self) -> None:
        self.guest = Guest(self.session.disks[0].overlay, self.host.sockets / "qmp")

    def power_off(self) -> None:
        if self.guest is not None:
            self.guest.kill()
            self.guest = None

    def now(self) -> InstantSession | None:
        return self.host.now(self.session)


def kill_server(case: Case) -> None:
    """It dies; `start` begins another; the guest waits for it."""
    pid = server_pid(Path(case.session.socket))
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    case.writes()  # whole clusters: nothing is read from it
    case.host.start(case.delta)


def rivals(case: Case) -> None:
    """Every other command that could write the disk, or take the overlay, is refused."""
    host, disk = case.host, case.host.disk()
    request = request_for(delta=case.older, destination=disk, overwrite=True, records=host.spool.receipts)
    acts: list[Callable[[], object]] = [
        lambda: host.restore_as(request),
        lambda: write_stub(disk.with_name("CRM-flat.vmdk")),
        lambda: host.start(case.older),
    ]
    if case.guest is not None:
        acts.append(lambda: discard_session(host.config, case.session))
    for number, act in enumerate(acts):
        try:
            act()
        except PhdError:
            continue
        case.wrong.append(f"rival {number} was let in")


def restore_killed(case: Case) -> None:
    """A worker dies in the middle of the restore; the next attempt restores."""
    dies(lambda: case.host.restore(case.session), *every_call(), number=case.dice.randrange(1, 12))
    case.host.restore(case.session)


def target_away(case: Case) -> None:
    """The target is gone for a while; the guest writes on."""
    store = case.host.lab.store
    store.rename(store.with_name("away"))
    case.writes()
    store.with_name("away").rename(store)


EVENTS = (kill_server, rivals, target_away)


def finish_off(case: Case) -> None:
    """The guest is switched off; `finish` is killed at a step, and given again."""
    case.power_off()
    dies(lambda: finish(case), *every_call(), number=case.dice.randrange(1, 14))
    if case.now() is not None:
        rivals(case)
        finish(case)


def finish_live(case: Case) -> None:
    """`finish --qmp` is killed at a step; then it goes on, live if QEMU copies, else with the guest off."""
    guest = case.guest
    if guest is None:
        return
    points: list[tuple[ModuleType | type, str]] = [*every_call(), (GuestMonitor, "command")]
    dies(lambda: finish(case, guest), *points, number=case.dice.randrange(1, 45))
    now = case.now()
    if now is not None and now.state is not SessionState.FINISHED and case.dice.random() < 0.5:
        guest.ask("cont")
        case.writes()
    if now is None:
        case.writes()
        case.power_off()
        return
    try:
        finish(case, guest)
    except PhdError:
        case.power_off()
        finish(case, keep=Keep.OVERLAY)


def qemu_killed(case: Case) -> None:
    """QEMU dies while it copies, with a write that was not flushed; what the guest reads after its restart is what it keeps."""
    guest = case.guest
    if guest is None:
        return
    honest = session_live._wait_until_ready

    def killed(*_: object) -> None:
        raise TryAgainLater("phd was killed")

    setattr(session_live, "_wait_until_ready", killed)  # noqa: B010  mypy forbids the plain form
    with contextlib.suppress(TryAgainLater):
        finish(case, guest)
    setattr(session_live, "_wait_until_ready", honest)  # noqa: B010  the same
    offset, byte = case.dice.randrange(SIZE // STEP) * STEP, case.dice.randrange(1, 256)
    guest.writes((offset, STEP, byte), flush=False)
    while guest.copies():
        pass
    case.power_off()
    case.boot()
    if case.guest is not None and case.guest.reads(offset, STEP, byte):
        case.disk[offset : offset + STEP] = bytes([byte]) * STEP
    case.power_off()
    finish(case)


def finish(case: Case, guest: Guest | None = None, *, keep: Keep | None = None) -> None:
    now = case.now()
    if now is not None:
        qmp = guest.monitor if guest is not None else None
        finish_session(case.host.config, now, stop=go_on, qmp=qmp, keep=keep)


ENDS = (finish_off, finish_live, qemu_killed)


def one_session(folder: Path, dice: random.Random, number: int) -> str:
    """What is wrong with one session; "" if nothing."""
    host = InstantHost(folder)
    older = host.lab.backup(dice.randbytes(SIZE)).delta
    data = dice.randbytes(SIZE)
    delta = host.lab.backup(data).delta
    session = host.start(delta).session
    case = Case(host=host, session=session, delta=delta, older=older, dice=dice, disk=bytearray(data))
    end = ENDS[number % len(ENDS)]
    try:
        case.boot()
        for event in dice.sample([*EVENTS, restore_killed], len(EVENTS) + 1):
            case.writes()
            event(case)
        case.writes()
        end(case)
        case.power_off()
        if host.disk("CRM-flat.vmdk").read_bytes() != bytes(case.disk):
            case.wrong.append("the disk lacks what its guest wrote")
        if host.names() != {"CRM.vmdk", "CRM-flat.vmdk"}:
            case.wrong.append(f"left: {sorted(host.names())}")
    except (PhdError, OSError, AssertionError) as error:
        case.wrong.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    finally:
        case.power_off()
        session_server.stop_server(host.config, session)
        host.close()
    return f"{end.__name__}: {case.wrong[0]}" if case.wrong else ""


def sessions(asked: Round) -> Figure:
    for name in ("qemu-img", "qemu-system-x86_64"):
        if shutil.which(name) is None:
            raise NotRun(f"{name} is not installed")
    dice, wrong = asked.dice(), []
    times = asked.times(90)
    for number in range(times):
        wrong.append(one_session(asked.folder / str(number), dice, number))
        shutil.rmtree(asked.folder / str(number), ignore_errors=True)
    failures = [one for one in wrong if one]
    return Figure(held=times - len(failures), of=times, note=f"first: {failures[0]}" if failures else "0 writes lost")


ROWS = (
    Row(
        id="R34",
        what="sessions of a real QEMU: server, restore, finish (off, live) and QEMU killed, target away, rivals at any moment",
        target="every flushed write in the disk at the end, nothing else in it, no rival let in",
        run=sessions,
        mutants=(
            "instant:nobody_guards",
            "instant:nothing_is_copied",
            "instant:a_used_overlay_is_thrown_away",
            "instant:the_header_stays",
            "instant:a_second_start_makes_a_new_overlay",
        ),
        mutant_share=0.07,
        short=None,
    ),
)
