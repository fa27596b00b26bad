"""Starts a session, or goes on with one that was interrupted or whose server or job is gone.

refuse what a restore would refuse > hold every disk > record `starting` > overlays, each durable under its name
> record `serving` > holds released > server, a block read through it > jobs > the guest may be started
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.installation import made_receipts_folder, spool_of
from phd_daemon.operations.instant import qemu_img
from phd_daemon.operations.instant.session_disks import (
    HeldDisk,
    held_disks,
    overlay_is_ours,
    session_lock,
    write_session,
)
from phd_daemon.operations.instant.session_server import SOCKETS, start_server
from phd_daemon.operations.restore import request_for
from phd_daemon.operations.submit import checked_text, submit
from phd_daemon.spool.control_file import ControlFile
from phd_daemon.spool.layout import State
from phd_daemon.spool.requests import states
from phd_daemon.spool.session_hints import remember
from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.destination import Destination, names_for, open_destination
from restore_core.disk.session_guard import in_session, refuse_in_session, session_names
from restore_core.disk.session_record import (
    FINISHING_SUFFIX,
    RECORD_SUFFIX,
    InstantSession,
    SessionDisk,
    SessionState,
    beside,
    read_session,
)
from restore_core.errors import DestinationError, UsageError, from_os_error
from restore_core.naming import MAX_NAME_BYTES, printable
from restore_core.restore.preview import plan_delta
from restore_core.restore.receipt import Receipts
from restore_core.restore.request import Reporter, RestoreOptions
from restore_core.serve.nbd.own_socket import LONGEST_PATH
from restore_core.targets import TargetSet, parse_ref
from restore_core.targets.base import ArchiveRef, Stop

_UNDECIDED = (State.WAITING, State.HELD, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDisk:
    """One disk that is to run from a backup."""

    delta: ArchiveRef
    path: Path
    full: ArchiveRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSession:
    """What a person asks for. `socket` is where the server is to listen; None: in /run/phd."""

    disks: tuple[WantedDisk, ...]
    vm: str = ""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    priority: int = 5
    socket: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedSession:
    """A session that serves, and the names of the jobs that were submitted just now."""

    session: InstantSession
    jobs: tuple[str, ...]


def start_session(config: Config, targets: TargetSet, wanted: WantedSession, *, reporter: Reporter, stop: Stop) -> StartedSession:
    """Starts a session and returns when its guest may be started. Repeated with the same backups and disks it goes on.

    Raises what a restore raises before it writes, `InSession` for a disk of another session, `ProgramMissing`, `UsageError`.
    """
    qemu_img.require_qemu_img()
    spool_of(config)
    made_receipts_folder(config)
    disks = tuple(_disk(one, targets) for one in wanted.disks)
    session = _there(disks)
    if session is None:
        session = _new_session(wanted, disks)
        _refuse_first(config, targets, wanted, session, reporter=reporter, stop=stop)
    if session.state is SessionState.STARTING:
        session = _begun(config, session)
    if session.state is not SessionState.SERVING:
        raise UsageError(
            f"{printable(session.disks[0].path)}: session {session.id} is {session.state.value}",
            remedy=f"End it: phd instant {'discard' if session.state is SessionState.DISCARDING else 'finish'} {session.id}",
        )
    remember(spool_of(config), session)
    with session_lock(session) as now:
        _refuse_lost_overlays(now)
        start_server(config, now)
        return StartedSession(session=now, jobs=_submitted(config, now))


def _disk(wanted: WantedDisk, targets: TargetSet) -> SessionDisk:
    with targets.open(wanted.delta) as source:
        header = DeltaReader(source).header
    flat, _descriptor = names_for(wanted.path, confined=False)
    if len(os.fsencode(flat + FINISHING_SUFFIX)) > MAX_NAME_BYTES:
        raise DestinationError(f"{printable(flat)}: too long a name for the disk of a session", remedy="Choose a shorter name.")
    return SessionDisk(
        path=os.fspath(wanted.path),
        delta=str(wanted.delta),
        delta_id=header.delta_id,
        export="",
        size=header.disk_size,
        full=str(wanted.full) if wanted.full else None,
    )


def _there(disks: Sequence[SessionDisk]) -> InstantSession | None:
    """Returns the session that has these very disks and backups; None if the first disk has no record of it."""
    found = read_session(beside(disks[0].flat, RECORD_SUFFIX))
    if found is None or [(one.path, one.delta) for one in found.disks] != [(one.path, one.delta) for one in disks]:
        return None
    return found


def _new_session(wanted: WantedSession, disks: tuple[SessionDisk, ...]) -> InstantSession:
    name = secrets.token_hex(6)
    socket = Path(os.path.abspath(wanted.socket)) if wanted.socket is not None else SOCKETS / f"{name}.sock"
    if len(os.fsencode(socket)) > LONGEST_PATH:
        raise UsageError(f"{printable(str(socket))}: the path of a socket has {LONGEST_PATH} bytes at most", remedy="See --sock.")
    many = len(disks) > 1
    named = tuple(
        replace(disk, export=f"{name}-{number}", job=f"instant-{name}{f'-{number}' if many else ''}")
        for number, disk in enumerate(disks, 1)
    )
    return InstantSession(
        id=name,
        state=SessionState.STARTING,
        disks=named,
        began=time.time(),
        socket=os.fspath(socket),
        vm=wanted.vm,
        options=tuple(sorted(wanted.options.chosen().items())),
        priority=wanted.priority,
    )


def _refuse_first(
    config: Config, targets: TargetSet, wanted: WantedSession, session: InstantSession, *, reporter: Reporter, stop: Stop
) -> None:
    """Raise the first reason why a job of the session could not restore its disk, before anything is changed."""
    paths = [disk.path for disk in session.disks]
    if len(set(paths)) != len(paths):
        raise UsageError("two disks of the session have the same path", remedy="Restore them to two names.")
    for disk, control in zip(wanted.disks, _controls(session), strict=True):
        checked_text(config, control)
        request = request_for(config, delta=disk.delta, destination=disk.path, full=disk.full, options=wanted.options)
        refused = plan_delta(request, targets, reporter=reporter, stop=stop).refusals
        if refused:
            raise refused[0]


def _begun(config: Config, session: InstantSession) -> InstantSession:
    """Brings a session to `serving`: the record, the overlays, the record again."""
    known = read_session(session.record) is not None

    def may(there: Destination) -> None:
        if not known:
            refuse_in_session(there)
        elif there.disk_name != session.disks[0].flat.name and there.has(there.disk_name + RECORD_SUFFIX):
            raise in_session(there, session_names(there))  # another session took this disk meanwhile

    with held_disks(config, session.disks, make_folders=True, may=may) as held:
        if not known:
            write_session(held[0], session, new=True)
        with session_lock(session) as now:
            inodes = [_overlay(one, now, config.datastores.mode) for one in held]
            disks = tuple(replace(disk, overlay_inode=inode) for disk, inode in zip(now.disks, inodes, strict=True))
            serving = now.to(SessionState.SERVING, disks=disks)
            write_session(held[0], serving)
    return serving


def _overlay(held: HeldDisk, session: InstantSession, mode: int) -> int:
    """Makes the overlay under a private name, and gives it its name, never over anything. Returns its inode."""
    folder = held.destination
    if not overlay_is_ours(held, session):
        private = f".phd-{secrets.token_hex(8)}.tmp"
        try:
            backing = qemu_img.backing_of(session.socket, held.disk.export)
            qemu_img.create_overlay(held.path(private), held.disk.size, backing)
            fd = folder.open(private)
            try:
                durable.set_mode(fd, mode)
                durable.sync_file(fd)
            finally:
                os.close(fd)
            folder.move(private, held.overlay_name)
        except OSError as error:
            raise from_os_error(error, doing="making the overlay", where=folder.where) from error
        finally:
            folder.remove(private)
    folder.refuse_if_moved()
    return os.stat(held.overlay_name, dir_fd=folder.folder_fd, follow_symlinks=False).st_ino


def _refuse_lost_overlays(session: InstantSession) -> None:
    """Refuse to serve for an overlay that is not the one of the session any more: nothing makes a new one."""
    for disk in session.disks:
        inode = os.lstat(disk.overlay).st_ino if os.path.lexists(disk.overlay) else None
        if inode != disk.overlay_inode:
            what = "is gone" if inode is None else "is another file now"
            raise DestinationError(
                f"{printable(str(disk.overlay))}: the overlay of session {session.id} {what}",
                remedy="What its guest wrote was in it: bring that very file back, or give it up with 'phd instant discard'.",
            )


def _controls(session: InstantSession) -> list[ControlFile]:
    options = RestoreOptions.parse(dict(session.options))
    return [
        ControlFile(
            delta=parse_ref(disk.delta),
            restore_to=Path(disk.path),
            full=parse_ref(disk.full) if disk.full else None,
            options=options,
            priority=session.priority,
            note=f"instant session {session.id}",
            session=session.id,
        )
        for disk in session.disks
    ]


def _submitted(config: Config, session: InstantSession) -> tuple[str, ...]:
    """Submits the jobs that are missing: those of disks that are not restored yet, and that no job is going to restore."""
    spool, jobs = spool_of(config), []
    for disk, control in zip(session.disks, _controls(session), strict=True):
        if not set(states(spool.folder, disk.job)) & set(_UNDECIDED) and not is_restored(config, disk):
            jobs += submit(config, [control], name=disk.job)
    return tuple(jobs)


def is_restored(config: Config, disk: SessionDisk) -> bool:
    """Whether the receipt of the disk that is there says that it is the one of the session's backup, and nobody wrote it since.

    By its stamps alone: `finish` proves it.
    """
    records = spool_of(config).receipts
    if not Path(disk.path).parent.is_dir():
        return False
    with open_destination(Path(disk.path), roots=None, make_folders=False) as there:
        facts = there.stat_disk()
        receipt = Receipts(records, there).load(facts)
        return facts is not None and receipt is not None and receipt.ours(facts) and receipt.delta_id == disk.delta_id
